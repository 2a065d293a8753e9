// The render worker: Kubernetes objects from a directory of a repository, on kustomize's own library.
//
// Flow: Weir starts it with pipes, asks for builds one at a time, answers its questions about the repository, and closes
// its standard input when it is done with it (protocol.go). Guarantees: it touches no file, no network and no environment,
// unless it is told to ask key management services (--network, sops_clouds.go); it never grows above --memory-limit for
// long. Assumes nothing of the machine but memory and time, and may be killed at any moment: it keeps nothing.
package main

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxStackBytes ends a runaway recursion long before Go's own 1 GiB would; 5,000 levels of YAML take about 20 MiB.
	maxStackBytes = 128 << 20
	// restAfter is how long a worker is idle before it gives memory back; builds of one commit follow closer than this.
	restAfter = 500 * time.Millisecond
	// lastWordTimeout bounds the wait for a write in progress before the process ends for its memory.
	lastWordTimeout = time.Second
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("renderer: ")
	bounds := defaultLimits()
	memory := flag.Int64("memory-limit", defaultMemoryBytes, "bytes of memory for the whole process")
	flag.IntVar(&bounds.Files, "max-files", bounds.Files, "files and directories one build may look at")
	flag.Int64Var(&bounds.FileBytes, "max-file-bytes", bounds.FileBytes, "bytes of one file")
	flag.Int64Var(&bounds.ReadBytes, "max-read-bytes", bounds.ReadBytes, "bytes of all files that one build reads")
	flag.IntVar(&bounds.Objects, "max-objects", bounds.Objects, "objects that one build renders")
	flag.Int64Var(&bounds.OutputBytes, "max-output-bytes", bounds.OutputBytes, "bytes of all objects that one build renders")
	network := flag.Bool("network", false, "may ask key management services; only the decrypting worker has a use for it")
	flag.Parse()
	debug.SetMaxStack(maxStackBytes)
	setMemoryBound(*memory)
	if *network {
		os.Clearenv()
	} else {
		sealProcess()
		if err := confine(); err != nil {
			log.Printf("not confined by the kernel: %v", err)
		}
	}
	w := &worker{in: bufio.NewReader(os.Stdin), out: os.Stdout, bounds: bounds, memory: *memory, exit: os.Exit}
	// Kustomize's library prints its warnings here; they go to Weir in the answer instead. The log keeps the real one.
	os.Stderr = os.NewFile(^uintptr(0), "nowhere")
	if err := w.serve(); err != nil {
		log.Fatal(err)
	}
}

// worker serves one pair of pipes.
type worker struct {
	in     io.Reader
	out    io.Writer
	bounds limits
	memory int64
	exit   func(code int)

	writing sync.Mutex
}

var errFatal = errors.New("cannot go on after a failure; the reason went to Weir")

// serve returns nil when Weir closes the input between two builds.
func (w *worker) serve() error {
	if err := writeFrame(w, toWeir{Hello: &hello{Protocol: protocolVersion, Kustomize: kustomizeVersion()}}); err != nil {
		return err
	}
	for {
		rest := time.AfterFunc(restAfter, debug.FreeOSMemory)
		var message toWorker
		err := readFrame(w.in, &message)
		rest.Stop()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case message.Build != nil:
			err = w.answer(message.Build.Path, func() (*done, *failure) {
				return render(pipePeer{in: w.in, out: w}, message.Build, w.bounds)
			})
		case message.Decode != nil:
			err = w.answer("", func() (*done, *failure) { return readDocuments(message.Decode, w.bounds) })
		default:
			err = errNoBuild
		}
		if err != nil {
			return err
		}
	}
}

// answer does what was asked, under watch, and tells what came of it.
func (w *worker) answer(path string, do func() (*done, *failure)) error {
	over := make(chan struct{})
	go watchMemory(w.memory, over, w.outOfMemory)
	answer, failed := do()
	close(over)
	if failed == nil {
		err := writeFrame(w, toWeir{Done: answer})
		if !errors.Is(err, errFrameTooLarge) {
			return err
		}
		failed = tooLarge("bytes of answer", maxFrameBytes, path)
	}
	if err := writeFrame(w, toWeir{Failed: failed}); err != nil {
		return err
	}
	if failed.Fatal {
		return errFatal
	}
	return nil
}

// kustomizeVersion is that of the module linked in.
func kustomizeVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "sigs.k8s.io/kustomize/api" {
				return module.Version
			}
		}
	}
	return "unknown"
}

// Write keeps frames whole when memory runs out in the middle of one.
func (w *worker) Write(frame []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.out.Write(frame)
}

func (w *worker) outOfMemory() {
	said := make(chan struct{})
	go func() {
		defer close(said)
		_ = writeFrame(w, toWeir{Failed: outgrown(w.memory)})
	}()
	select {
	case <-said:
	case <-time.After(lastWordTimeout):
	}
	log.Printf("more than %d bytes of memory in use", w.memory)
	w.exit(exitTooLarge)
}
