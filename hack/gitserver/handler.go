package main

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"strings"
)

// A push larger than Git's http.postBuffer (1 MiB) arrives chunked, and CGI needs its length first, so it is kept on
// disk for a moment. The repositories of demo and tests are a few MiB; this leaves room and still ends.
const maxChunkedBody = 256 << 20

type options struct {
	root     string
	basic    string
	bearer   string
	downFile string
}

// newHandler answers with Git's own backend, behind the two gates that the options ask for.
func newHandler(o options) (http.Handler, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, errors.New("`git` is not on PATH: install Git")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case o.isDown():
			http.Error(w, "the server is down for a test", http.StatusServiceUnavailable)
		case !o.admits(r):
			w.Header().Set("WWW-Authenticate", o.challenge())
			http.Error(w, "wrong or missing credentials", http.StatusUnauthorized)
		default:
			if err := serveGit(w, r, git, o.root); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		}
	}), nil
}

func (o options) isDown() bool {
	if o.downFile == "" {
		return false
	}
	_, err := os.Stat(o.downFile)
	return err == nil
}

// admits says whether a request carries one of the credentials asked for; with none asked for, every request does.
func (o options) admits(r *http.Request) bool {
	if o.basic == "" && o.bearer == "" {
		return true
	}
	if user, password, ok := r.BasicAuth(); ok {
		return o.basic != "" && same(user+":"+password, o.basic)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && o.bearer != "" && same(token, o.bearer)
}

func (o options) challenge() string {
	if o.basic != "" {
		return `Basic realm="weir gitserver"`
	}
	return `Bearer realm="weir gitserver"`
}

func same(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// serveGit hands one request to `git http-backend`. The settings of the user and the machine do not reach it, so a
// test means the same everywhere.
func serveGit(w http.ResponseWriter, r *http.Request, git, root string) error {
	if r.ContentLength < 0 {
		done, err := spool(w, r)
		if err != nil {
			return err
		}
		defer done()
	}
	handler := cgi.Handler{
		Path: git,
		Args: []string{"http-backend"},
		Dir:  root,
		Env: []string{
			"GIT_PROJECT_ROOT=" + root,
			"GIT_HTTP_EXPORT_ALL=1",
			"GIT_PROTOCOL=" + r.Header.Get("Git-Protocol"),
			"GIT_CONFIG_NOSYSTEM=1",
			"GIT_CONFIG_GLOBAL=" + os.DevNull,
			"GIT_CONFIG_COUNT=2",
			"GIT_CONFIG_KEY_0=http.receivepack",
			"GIT_CONFIG_VALUE_0=true",
			// Whoever started the server named the folder; that its owner differs is no reason to refuse.
			"GIT_CONFIG_KEY_1=safe.directory",
			"GIT_CONFIG_VALUE_1=*",
		},
	}
	handler.ServeHTTP(w, r)
	return nil
}

// spool moves a body of unknown length to a file, so that its length is known; the function it returns removes the file.
func spool(w http.ResponseWriter, r *http.Request) (func(), error) {
	file, err := os.CreateTemp("", "gitserver-body-*")
	if err != nil {
		return nil, err
	}
	// The open descriptor is enough; without a name nothing is left behind, however the process ends.
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	length, err := io.Copy(file, http.MaxBytesReader(w, r.Body, maxChunkedBody))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the request (at most %d MiB): %w", maxChunkedBody>>20, err), file.Close())
	}
	r.Body, r.ContentLength, r.TransferEncoding = file, length, nil
	return func() { _ = file.Close() }, nil
}
