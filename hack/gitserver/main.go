// Command gitserver serves the bare repositories below a folder over HTTP, for the demo and the tests.
//
// It is net/http around `git http-backend`, so clients meet Git's own server: smart protocol, fetch and push.
// It guarantees that it listens on loopback only and prints its URL as its first line once it accepts connections.
// It assumes that whoever can reach the loopback interface may read and write the repositories, unless
// --basic or --bearer asks for a credential.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// A request's header comes from the same machine; a client that needs longer is not alive.
const headerTimeout = 10 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gitserver:", err)
		os.Exit(1)
	}
}

func run() error {
	var options options
	root := flag.String("root", "", "folder with the bare repositories (required)")
	address := flag.String("addr", "127.0.0.1:0", "loopback address and port to listen on; port 0 picks a free one")
	flag.StringVar(&options.basic, "basic", "", "user:password that every request must carry")
	flag.StringVar(&options.bearer, "bearer", "", "bearer token that every request must carry")
	flag.StringVar(&options.downFile, "down-file", "", "while this file exists, every request is answered with 503")
	flag.Parse()

	if *root == "" {
		return errors.New("--root is required: name the folder with the bare repositories")
	}
	absolute, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	if info, err := os.Stat(absolute); err != nil {
		return fmt.Errorf("--root: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("--root %s is not a folder", absolute)
	}
	options.root = absolute

	handler, err := newHandler(options)
	if err != nil {
		return err
	}
	listener, err := listenLoopback(*address)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())

	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	context.AfterFunc(stop, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listenLoopback refuses every address that other machines could reach.
func listenLoopback(address string) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--addr %s: %w", address, err)
	}
	if !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("--addr %s is not a loopback address: use 127.0.0.1:PORT", address)
	}
	return net.ListenTCP("tcp", resolved)
}
