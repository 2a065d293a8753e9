//go:build !linux || !(amd64 || arm64)

package main

import "errors"

// confine is for Linux; elsewhere the worker relies on what sealProcess takes away.
func confine() error { return errors.New("no seccomp on this system") }
