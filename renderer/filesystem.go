// The repository as kustomize's file system interface: read only, jailed, without a disk.
//
// The repository is mounted deep enough to tell a path that leaves it from one that does not: a cleaned path outside of
// the mount climbed out. Symbolic links do not exist here, so a cleaned path is the real one.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// mount is where the repository lies in kustomize's eyes. The name only has to be unlike any directory in a repository;
// `unmounted` takes it out of messages.
const mount = "/weir.repository.root"

var errReadOnly = errors.New("the repository is read only")

// repository implements filesys.FileSystem.
type repository struct {
	session *session
	// look sees every kustomization file before kustomize does, and may refuse it.
	look func(p string, content []byte) error
}

func mounted(p string) string { return path.Join(mount, p) }

func unmounted(message string) string {
	message = strings.ReplaceAll(message, mount+"/", "")
	return strings.ReplaceAll(message, mount, ".")
}

// relative returns the path from the root of the repository.
func relative(p string) (string, error) {
	if !path.IsAbs(p) {
		p = path.Join(mount, p)
	}
	p = path.Clean(p)
	if p == mount {
		return ".", nil
	}
	if rest, ok := strings.CutPrefix(p, mount+"/"); ok {
		return rest, nil
	}
	return "", fmt.Errorf("'%s' is outside of the repository", p)
}

func notExist(rel string) error { return fmt.Errorf("'%s' does not exist: %w", rel, fs.ErrNotExist) }

func (r *repository) kind(p string) string {
	rel, err := relative(p)
	if err != nil {
		return ""
	}
	kind, err := r.session.stat(rel)
	if err != nil {
		return ""
	}
	return kind
}

func (r *repository) Exists(p string) bool { return r.kind(p) != "" }

func (r *repository) IsDir(p string) bool { return r.kind(p) == kindDir }

func (r *repository) ReadFile(p string) ([]byte, error) {
	rel, err := relative(p)
	if err != nil {
		return nil, err
	}
	content, kind, err := r.session.read(rel)
	switch {
	case err != nil:
		return nil, err
	case kind == "":
		return nil, notExist(rel)
	case kind == kindDir:
		return nil, fmt.Errorf("'%s' is a directory", rel)
	}
	if isKustomizationName(path.Base(rel)) {
		if err := r.look(rel, content); err != nil {
			return nil, err
		}
	}
	return content, nil
}

func (r *repository) ReadDir(p string) ([]string, error) {
	rel, err := relative(p)
	if err != nil {
		return nil, err
	}
	entries, err := r.session.list(rel)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, nil
}

func (r *repository) CleanedAbs(p string) (filesys.ConfirmedDir, string, error) {
	rel, err := relative(p)
	if err != nil {
		return "", "", err
	}
	kind, err := r.session.stat(rel)
	switch {
	case err != nil:
		return "", "", err
	case kind == "":
		return "", "", notExist(rel)
	case kind == kindDir:
		return filesys.ConfirmedDir(mounted(rel)), "", nil
	}
	return filesys.ConfirmedDir(mounted(path.Dir(rel))), path.Base(rel), nil
}

// The rest of the interface is for tools that edit a tree; a build uses none of it.

func (r *repository) Create(string) (filesys.File, error)      { return nil, errReadOnly }
func (r *repository) Open(string) (filesys.File, error)        { return nil, errReadOnly }
func (r *repository) Mkdir(string) error                       { return errReadOnly }
func (r *repository) MkdirAll(string) error                    { return errReadOnly }
func (r *repository) RemoveAll(string) error                   { return errReadOnly }
func (r *repository) WriteFile(string, []byte) error           { return errReadOnly }
func (r *repository) Glob(string) ([]string, error)            { return nil, errReadOnly }
func (r *repository) Walk(_ string, _ filepath.WalkFunc) error { return errReadOnly }
