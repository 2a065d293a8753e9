package main

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPushIsFetchedBackByAClone(t *testing.T) {
	server := start(t, options{})
	work := commit(t, []byte("hello\n"))
	git(t, work, "push", server.URL+"/app.git", "HEAD:main")

	clone := t.TempDir()
	git(t, clone, "clone", "--branch", "main", server.URL+"/app.git", "copy")
	got, err := os.ReadFile(filepath.Join(clone, "copy", "file"))
	if err != nil || string(got) != "hello\n" {
		t.Fatalf("cloned file is %q, %v", got, err)
	}
}

func TestAPushThatGitSendsChunkedArrivesWhole(t *testing.T) {
	server := start(t, options{})
	// Random bytes do not compress, so the pack is above Git's http.postBuffer of 1 MiB.
	large := make([]byte, 3<<20)
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	git(t, commit(t, large), "push", server.URL+"/app.git", "HEAD:main")

	clone := t.TempDir()
	git(t, clone, "clone", "--branch", "main", server.URL+"/app.git", "copy")
	got, err := os.ReadFile(filepath.Join(clone, "copy", "file"))
	if err != nil || !bytes.Equal(got, large) {
		t.Fatalf("cloned file has %d bytes, %v", len(got), err)
	}
}

func TestCredentialsAreAskedForAndChecked(t *testing.T) {
	for name, c := range map[string]struct {
		options   options
		header    string
		status    int
		challenge string
	}{
		"none asked for":                {options{}, "", http.StatusOK, ""},
		"basic missing":                 {options{basic: "u:p"}, "", http.StatusUnauthorized, "Basic"},
		"basic wrong":                   {options{basic: "u:p"}, "Basic dTp4", http.StatusUnauthorized, "Basic"},
		"basic right":                   {options{basic: "u:p"}, "Basic dTpw", http.StatusOK, ""},
		"bearer missing":                {options{bearer: "t"}, "", http.StatusUnauthorized, "Bearer"},
		"bearer wrong":                  {options{bearer: "t"}, "Bearer x", http.StatusUnauthorized, "Bearer"},
		"bearer right":                  {options{bearer: "t"}, "Bearer t", http.StatusOK, ""},
		"basic where bearer is asked":   {options{bearer: "t"}, "Basic dTpw", http.StatusUnauthorized, "Bearer"},
		"bearer where basic is asked":   {options{basic: "u:p"}, "Bearer t", http.StatusUnauthorized, "Basic"},
		"either of two is good: bearer": {options{basic: "u:p", bearer: "t"}, "Bearer t", http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			response := get(t, start(t, c.options), c.header)
			if response.StatusCode != c.status {
				t.Errorf("status %d, want %d", response.StatusCode, c.status)
			}
			if got := response.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, c.challenge) || (got == "") != (c.challenge == "") {
				t.Errorf("challenge %q, want %q", got, c.challenge)
			}
		})
	}
}

func TestGitLogsInWithTheUserInfoOfTheURL(t *testing.T) {
	server := start(t, options{basic: "git:s3cret"})
	target, err := url.Parse(server.URL + "/app.git")
	if err != nil {
		t.Fatal(err)
	}
	target.User = url.UserPassword("git", "s3cret")
	git(t, commit(t, []byte("x")), "push", target.String(), "HEAD:main")
}

func TestTheServerIsDownWhileTheFileExists(t *testing.T) {
	file := filepath.Join(t.TempDir(), "down")
	server := start(t, options{downFile: file})
	status := func() int { return get(t, server, "").StatusCode }
	if got := status(); got != http.StatusOK {
		t.Fatalf("before: %d", got)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != http.StatusServiceUnavailable {
		t.Fatalf("while it exists: %d", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != http.StatusOK {
		t.Fatalf("after: %d", got)
	}
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "nonsense"} {
		if listener, err := listenLoopback(address); err == nil {
			listener.Close()
			t.Errorf("%s was accepted", address)
		}
	}
	listener, err := listenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
}

// start serves one empty bare repository, app.git.
func start(t *testing.T, o options) *httptest.Server {
	t.Helper()
	o.root = t.TempDir()
	git(t, o.root, "init", "--bare", "app.git")
	handler, err := newHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// commit makes a work tree with one commit of one file.
func commit(t *testing.T, content []byte) string {
	t.Helper()
	work := t.TempDir()
	git(t, work, "init")
	if err := os.WriteFile(filepath.Join(work, "file"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, work, "add", "file")
	git(t, work, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-m", "a file")
	return work
}

func get(t *testing.T, server *httptest.Server, authorization string) *http.Response {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, server.URL+"/app.git/info/refs?service=git-upload-pack", nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}

func git(t *testing.T, dir string, arguments ...string) {
	t.Helper()
	command := exec.Command("git", arguments...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
}
