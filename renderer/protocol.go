// The protocol between Weir and its render worker. This file and `src/render/protocol.rs` are its two sides.
//
// A frame is a big-endian u32 length followed by that many bytes of one JSON object with exactly one key (which names the
// kind of message). Weir writes to the worker's standard input, the worker to its standard output; standard error is for
// humans. One build is in flight at a time, and the protocol is strictly alternating after the greeting:
//
//	worker → Weir  {"hello": {"protocol": 3, "kustomize": "v0.21.1"}}      once, when the process starts
//	Weir → worker  {"build": {…}}                                          see buildRequest
//	worker → Weir  {"read": "apps/prod/kustomization.yaml"}                any number of questions, each answered
//	               {"stat": "apps/base"} | {"list": "apps/base"}           before the next is asked
//	Weir → worker  {"file": "<base64>"}                                    to read of a file
//	               {"kind": "file" | "dir"}                                to stat; to read of a dir; to list of a file
//	               {"dir": [{"name": "a.yaml", "kind": "file"}, …]}        to list
//	               {"missing": true}                                       nothing of use is there (a symlink is missing too)
//	               {"error": "…"}                                          Weir cannot tell; the build ends
//	worker → Weir  {"done": {…}} | {"failed": {…}}                         see done and failure; ready for the next build
//	Weir → worker  {"decode": {"content": "<base64>"}}                     instead of a build: the documents of a YAML stream;
//	                                                                       the worker asks nothing
//
// Guarantees: every path is relative to the root of the repository, cleaned, with "." for the root itself and never "..".
// No path is asked twice in one build with the same question. After a failure with fatal=true the process exits.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// protocolVersion changes whenever one side would misread the other.
const protocolVersion = 3

// maxFrameBytes bounds one frame in both directions: a file of maxFileBytes in base64 (4/3) is 21.4 MiB, an output of
// maxOutputBytes with its envelope about 25 MiB; 32 MiB is the next power of two.
const maxFrameBytes = 32 << 20

type buildRequest struct {
	// Path is the directory to build as spec.path spells it; what climbs above the root ends at the root, as in Flux.
	Path            string `json:"path"`
	TargetNamespace string `json:"targetNamespace,omitempty"`
	NamePrefix      string `json:"namePrefix,omitempty"`
	NameSuffix      string `json:"nameSuffix,omitempty"`

	Patches    []patch  `json:"patches,omitempty"`
	Images     []image  `json:"images,omitempty"`
	Components []string `json:"components,omitempty"`
	// IgnoreMissingComponents leaves out components whose directory does not exist.
	IgnoreMissingComponents bool     `json:"ignoreMissingComponents,omitempty"`
	BuildMetadata           []string `json:"buildMetadata,omitempty"`
	// Substitute is absent when spec.postBuild is.
	Substitute *substitution `json:"substitute,omitempty"`
	// Decrypt is absent when spec.decryption is. Only the decrypting worker takes it.
	Decrypt *decryption `json:"decrypt,omitempty"`
	// KeepEncrypted leaves Secrets that are encrypted as they are, for those who only look.
	KeepEncrypted bool   `json:"keepEncrypted,omitempty"`
	Limits        limits `json:"limits,omitempty"`
}

type decodeRequest struct {
	Content []byte `json:"content"`
	// Lines asks for the line of each field too.
	Lines bool `json:"lines,omitempty"`
}

type patch struct {
	Patch  string    `json:"patch"`
	Target *selector `json:"target,omitempty"`
}

type selector struct {
	Group              string `json:"group,omitempty"`
	Version            string `json:"version,omitempty"`
	Kind               string `json:"kind,omitempty"`
	Name               string `json:"name,omitempty"`
	Namespace          string `json:"namespace,omitempty"`
	LabelSelector      string `json:"labelSelector,omitempty"`
	AnnotationSelector string `json:"annotationSelector,omitempty"`
}

type image struct {
	Name    string `json:"name"`
	NewName string `json:"newName,omitempty"`
	NewTag  string `json:"newTag,omitempty"`
	Digest  string `json:"digest,omitempty"`
}

type substitution struct {
	Vars map[string]string `json:"vars"`
	// Strict makes a variable without value or default an error.
	Strict bool `json:"strict"`
	// Always substitutes even when there is not one variable, for the sake of defaults in expressions.
	Always bool `json:"always"`
}

type done struct {
	Objects  []renderedObject `json:"objects"`
	Warnings []warning        `json:"warnings"`
}

type renderedObject struct {
	Object json.RawMessage `json:"object"`
	// Path is the file the object was written in, or the kustomization that generated it; empty when not known.
	Path string `json:"path,omitempty"`
	// Line counts from 1; 0 when not known.
	Line int `json:"line,omitempty"`
	// Lines has the line of each field by its JSON pointer, when a decodeRequest asks for them.
	Lines map[string]int `json:"lines,omitempty"`
}

type warning struct {
	Message string `json:"message"`
	Path    string `json:"path,omitempty"`
}

// Codes of a failure. Weir decides by them, people read the message.
const (
	codeNotFound = "not-found" // the directory to build does not exist
	codeInvalid  = "invalid"   // what is in the repository, or in the request, does not build
	codeRemote   = "remote"    // something has to be fetched from elsewhere
	codeTooLarge = "too-large" // a limit was met: what and limit say which
	codeFiles    = "files"     // Weir answered a question with an error
	codePanic    = "panic"     // kustomize panicked
)

type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Path    string `json:"path,omitempty"`
	Line    int    `json:"line,omitempty"`
	What    string `json:"what,omitempty"`
	Limit   int64  `json:"limit,omitempty"`
	// Kustomize says that it is kustomize that failed, and not what comes before or after it.
	Kustomize bool `json:"kustomize,omitempty"`
	// Fatal says that the process exits after this message.
	Fatal bool `json:"fatal,omitempty"`
}

func (f *failure) Error() string {
	switch {
	case f.Path != "" && f.Line > 0:
		return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Message)
	case f.Path != "":
		return fmt.Sprintf("%s: %s", f.Path, f.Message)
	default:
		return f.Message
	}
}

type hello struct {
	Protocol  int    `json:"protocol"`
	Kustomize string `json:"kustomize"`
}

// toWeir is a message of the worker; exactly one field is set.
type toWeir struct {
	Hello  *hello   `json:"hello,omitempty"`
	Read   string   `json:"read,omitempty"`
	List   string   `json:"list,omitempty"`
	Stat   string   `json:"stat,omitempty"`
	Done   *done    `json:"done,omitempty"`
	Failed *failure `json:"failed,omitempty"`
}

// Kinds of an entry. Anything else in a repository (symlink, submodule) does not exist for a build.
const (
	kindFile = "file"
	kindDir  = "dir"
)

type entry struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// toWorker is a message of Weir; exactly one field is set.
type toWorker struct {
	Build   *buildRequest  `json:"build,omitempty"`
	Decode  *decodeRequest `json:"decode,omitempty"`
	File    *[]byte        `json:"file,omitempty"`
	Dir     *[]entry       `json:"dir,omitempty"`
	Kind    string         `json:"kind,omitempty"`
	Missing bool           `json:"missing,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// errFrameTooLarge is returned, with nothing written, for a message that does not fit in a frame.
var errFrameTooLarge = errors.New("message does not fit in a frame")

func writeFrame(w io.Writer, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	if len(body) > maxFrameBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", errFrameTooLarge, len(body), maxFrameBytes)
	}
	frame := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

// readFrame returns io.EOF only when the stream ends between two frames.
func readFrame(r io.Reader, message any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > maxFrameBytes {
		return fmt.Errorf("%w: %d bytes announced, at most %d", errFrameTooLarge, length, maxFrameBytes)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("reading a frame of %d bytes: %w", length, noEOF(err))
	}
	if err := json.Unmarshal(body, message); err != nil {
		return fmt.Errorf("decoding a frame of %d bytes: %w", length, err)
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
