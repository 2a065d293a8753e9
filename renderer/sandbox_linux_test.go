package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// confinedArgument makes the test binary confine itself and try everything that it should not be able to do.
const confinedArgument = "try-in-confinement"

func tryInConfinement() {
	if err := confine(); err != nil {
		fmt.Println("confine:", err)
		return
	}
	_, err := os.ReadFile("/etc/hostname")
	fmt.Println("read:", err)
	fmt.Println("write:", os.WriteFile("/tmp/x", nil, 0o600))
	_, err = net.Dial("tcp", "127.0.0.1:1")
	fmt.Println("dial:", err)
	_, err = net.Dial("unix", "/run/x")
	fmt.Println("unix:", err)
	fmt.Println("run:", exec.Command("/bin/true").Run())
	done := make(chan error)
	for range 8 { // other threads too
		go func() {
			_, err := os.Open("/")
			done <- err
		}()
		fmt.Println("open:", <-done)
	}
}

func TestAConfinedWorkerOpensNothing(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", confinedArgument).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 13 {
		t.Errorf("%d lines: %s", len(lines), out)
	}
	for _, line := range lines {
		if !strings.HasSuffix(line, "operation not permitted") {
			t.Error(line)
		}
	}
}
