// Bounds of one build, and the watch over the memory of the process.
//
// Guarantees: meeting a bound is a failure with code too-large that names the bound; nothing is cut off in silence.
package main

import (
	"fmt"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// maxFiles bounds questions per build (files, directories, look-ups). The largest public GitOps monorepos hold a few
	// thousand manifests in all; one Kustomization reads a part of one.
	maxFiles = 20_000
	// maxFileBytes bounds one file. The API server takes objects of 1.5 MiB (etcd); bundles of CRDs in one file reach 10 MiB.
	maxFileBytes = 16 << 20
	// maxReadBytes bounds all that a build reads: four files of the largest size, and thousands of ordinary ones.
	maxReadBytes = 64 << 20
	// maxObjects bounds the output. An inventory entry is about 100 bytes and the owner's status has to fit in 1.5 MiB.
	maxObjects = 10_000
	// maxOutputBytes bounds the JSON of all objects, so that the answer fits in one frame.
	maxOutputBytes = 24 << 20
	// maxDepth bounds the nesting of an object: Weir's JSON reader stops at 128 levels, of which the envelope takes 4. The
	// deepest objects in use, schemas in CRDs, nest about 60 levels.
	maxDepth = 120
	// defaultMemoryBytes is for the Go heap and all the runtime's overhead: the parsed schema takes about 40 MiB, a build of
	// maxReadBytes several times its size as YAML nodes.
	defaultMemoryBytes = 512 << 20

	// memoryCheckEvery is short against the time it takes to allocate the slack (about 1 GiB/s at the very most).
	memoryCheckEvery = 20 * time.Millisecond
	// exitTooLarge is the exit code after the memory bound was met, for logs; the reason goes out as a failure before.
	exitTooLarge = 3
)

// limits are the bounds of one build; zero means the worker's own, and none can be raised above it.
type limits struct {
	Files       int   `json:"files,omitempty"`
	FileBytes   int64 `json:"fileBytes,omitempty"`
	ReadBytes   int64 `json:"readBytes,omitempty"`
	Objects     int   `json:"objects,omitempty"`
	OutputBytes int64 `json:"outputBytes,omitempty"`
}

func defaultLimits() limits {
	return limits{
		Files: maxFiles, FileBytes: maxFileBytes, ReadBytes: maxReadBytes, Objects: maxObjects, OutputBytes: maxOutputBytes,
	}
}

// within returns these limits where they are set and lower, else the worker's.
func (l limits) within(worker limits) limits {
	return limits{
		Files:       lower(l.Files, worker.Files),
		FileBytes:   lower(l.FileBytes, worker.FileBytes),
		ReadBytes:   lower(l.ReadBytes, worker.ReadBytes),
		Objects:     lower(l.Objects, worker.Objects),
		OutputBytes: lower(l.OutputBytes, worker.OutputBytes),
	}
}

func lower[T int | int64](asked, own T) T {
	if asked > 0 && asked < own {
		return asked
	}
	return own
}

// outgrown is the failure of a build that needs too much memory.
func outgrown(memory int64) *failure {
	return &failure{
		Code: codeTooLarge, What: "bytes of memory", Limit: memory, Fatal: true,
		Message: fmt.Sprintf("too large: the build needs more than %d bytes of memory; look for YAML aliases that multiply, "+
			"or split the Kustomization", memory),
	}
}

// tooDeep tells whether JSON nests deeper than the bound.
func tooDeep(object []byte, bound int) bool {
	depth, inString := 0, false
	for i := 0; i < len(object); i++ {
		switch c := object[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > bound {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func tooLarge(what string, limit int64, path string) *failure {
	return &failure{
		Code: codeTooLarge, What: what, Limit: limit, Path: path,
		Message: fmt.Sprintf("too large: more than %d %s in one build; split the Kustomization", limit, what),
	}
}

// watchMemory calls met once if the process grows above the bound, until stop is closed. The garbage collector works
// against the bound first (it is Go's soft limit too), so that what is seen here is really in use.
func watchMemory(bound int64, stop <-chan struct{}, met func()) {
	tick := time.NewTicker(memoryCheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			if memoryInUse() > uint64(bound) {
				met()
				return
			}
		}
	}
}

// setMemoryBound makes Go collect before it grows above nine tenths of the bound.
func setMemoryBound(bound int64) {
	debug.SetMemoryLimit(bound / 10 * 9)
}

// memoryInUse is what Go has from the operating system and has not given back.
func memoryInUse() uint64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
