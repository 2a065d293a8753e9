// One build's conversation with Weir: questions about the repository, each asked once, and the bounds on them.
//
// Assumes one goroutine per session. The first error sticks, because kustomize's file system interface has questions
// (Exists, IsDir) that cannot answer with one: whoever ran the build looks at `broken` afterwards.
package main

import (
	"fmt"
	"io"
	"path"
)

// peer is the other end of the pipe.
type peer interface {
	ask(question toWeir) (toWorker, error)
}

type session struct {
	peer   peer
	limits limits
	broken *failure

	nodes     map[string]*node
	asked     int
	readBytes int64
	// order lists the files whose content was read, first come first.
	order []string
}

// node is what is known of one path.
type node struct {
	kind    string // kindFile, kindDir, or "" for missing
	content []byte // as it is in the repository
	pinned  []byte // as the build sees it, if that is something else
	read    bool
	entries []entry
	listed  bool
}

func newSession(peer peer, bounds limits) *session {
	return &session{peer: peer, limits: bounds, nodes: map[string]*node{}}
}

// stat returns what is at the path: kindFile, kindDir or "".
func (s *session) stat(p string) (string, error) {
	if n, ok := s.nodes[p]; ok {
		return n.kind, s.err()
	}
	answer, err := s.question(toWeir{Stat: p}, p)
	if err != nil {
		return "", err
	}
	if !answer.Missing && answer.Kind == "" {
		return "", s.breach("stat", p)
	}
	return s.learn(p, answer.Kind).kind, nil
}

// read returns the content if the path is a file, and its kind in any case.
func (s *session) read(p string) ([]byte, string, error) {
	if n, ok := s.nodes[p]; ok && (n.kind != kindFile || n.read) {
		return n.seen(), n.kind, s.err()
	}
	answer, err := s.question(toWeir{Read: p}, p)
	if err != nil {
		return nil, "", err
	}
	if answer.File == nil {
		if !answer.Missing && answer.Kind != kindDir {
			return nil, "", s.breach("read", p)
		}
		return nil, s.learn(p, answer.Kind).kind, nil
	}
	size := int64(len(*answer.File))
	if size > s.limits.FileBytes {
		return nil, "", s.fail(tooLarge("bytes of one file", s.limits.FileBytes, p))
	}
	s.readBytes += size
	if s.readBytes > s.limits.ReadBytes {
		return nil, "", s.fail(tooLarge("bytes of files", s.limits.ReadBytes, p))
	}
	n := s.learn(p, kindFile)
	n.content, n.read = *answer.File, true
	s.order = append(s.order, p)
	return n.content, kindFile, nil
}

// list returns the entries of a directory and remembers their kinds.
func (s *session) list(p string) ([]entry, error) {
	if n, ok := s.nodes[p]; ok && (n.kind != kindDir || n.listed) {
		return n.entries, s.err()
	}
	answer, err := s.question(toWeir{List: p}, p)
	if err != nil {
		return nil, err
	}
	if answer.Dir == nil {
		if !answer.Missing && answer.Kind != kindFile {
			return nil, s.breach("list", p)
		}
		s.learn(p, answer.Kind)
		return nil, nil
	}
	n := s.learn(p, kindDir)
	n.entries, n.listed = *answer.Dir, true
	for _, e := range n.entries {
		child := path.Join(p, e.Name)
		if _, known := s.nodes[child]; !known {
			s.learn(child, e.Kind)
		}
	}
	return n.entries, nil
}

// pin makes a path a file with the given content, whatever the repository has there.
func (s *session) pin(p string, content []byte) {
	n := s.learn(p, kindFile)
	n.pinned, n.read = content, true
}

// pinned tells whether the build sees something else than what the repository has.
func (s *session) pinned(p string) bool { return s.nodes[p] != nil && s.nodes[p].pinned != nil }

func (n *node) seen() []byte {
	if n.pinned != nil {
		return n.pinned
	}
	return n.content
}

func (s *session) learn(p, kind string) *node {
	n, ok := s.nodes[p]
	if !ok {
		n = &node{}
		s.nodes[p] = n
	}
	n.kind = kind
	return n
}

func (s *session) question(q toWeir, p string) (toWorker, error) {
	if s.broken != nil {
		return toWorker{}, s.broken
	}
	s.asked++
	if s.asked > s.limits.Files {
		return toWorker{}, s.fail(tooLarge("files and directories", int64(s.limits.Files), p))
	}
	answer, err := s.peer.ask(q)
	if err != nil {
		return toWorker{}, s.fail(&failure{Code: codeFiles, Message: "conversation with Weir ended: " + err.Error(), Path: p, Fatal: true})
	}
	if answer.Error != "" {
		return toWorker{}, s.fail(&failure{Code: codeFiles, Message: answer.Error, Path: p})
	}
	return answer, nil
}

func (s *session) err() error {
	if s.broken != nil {
		return s.broken
	}
	return nil
}

func (s *session) fail(f *failure) *failure {
	if s.broken == nil {
		s.broken = f
	}
	return s.broken
}

func (s *session) breach(what, p string) *failure {
	return s.fail(&failure{Code: codeFiles, Message: fmt.Sprintf("unexpected answer to %s", what), Path: p, Fatal: true})
}

// pipePeer asks over the real pipe.
type pipePeer struct {
	in  io.Reader
	out io.Writer
}

func (p pipePeer) ask(question toWeir) (toWorker, error) {
	if err := writeFrame(p.out, question); err != nil {
		return toWorker{}, err
	}
	var answer toWorker
	if err := readFrame(p.in, &answer); err != nil {
		return toWorker{}, noEOF(err)
	}
	return answer, nil
}
