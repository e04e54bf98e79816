package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// namedPaths returns the paths of this repository that a page names: between
// backticks (a word with a slash, or a file name) and as targets of links.
func namedPaths(page string) []string {
	var found []string
	add := func(s string) {
		if !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	code := regexp.MustCompile("`([A-Za-z0-9_.][A-Za-z0-9_./-]*)`")
	for _, m := range code.FindAllStringSubmatch(page, -1) {
		switch ext := path.Ext(m[1]); {
		case strings.HasPrefix(m[1], "math/"), strings.HasPrefix(m[1], "weir."): // the standard library, a schema
		case strings.Contains(m[1], "/") && !strings.HasPrefix(m[1], "/"), ext == ".go", ext == ".md":
			add(m[1])
		}
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, m := range link.FindAllStringSubmatch(page, -1) {
		add(m[1])
	}
	return found
}

// missingPaths returns which of the paths that pages name are not in fsys, and
// how many were looked at.
func missingPaths(fsys fs.FS, pages ...string) (looked int, missing []string, err error) {
	for _, page := range pages {
		text, err := fs.ReadFile(fsys, page)
		if err != nil {
			return looked, missing, err
		}
		for _, p := range namedPaths(string(text)) {
			looked++
			if _, err := fs.Stat(fsys, path.Clean(p)); err != nil {
				missing = append(missing, fmt.Sprintf("%s names %s, which is not there", page, p))
			}
		}
	}
	return looked, missing, nil
}

func TestDocsNamePathsThatExist(t *testing.T) {
	looked, missing, err := missingPaths(os.DirFS(repositoryRoot(t)), "README.md", "CONTRIBUTING.md", "bench/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if looked < 10 {
		t.Fatalf("looked at %d paths only", looked)
	}
	for _, m := range missing {
		t.Error(m)
	}
}

func TestMissingPathsAreFound(t *testing.T) {
	fsys := fstest.MapFS{
		"A.md":   {Data: []byte("see `b/c.go`, `b/gone.go`, `make test`, `x.y`, `/etc/weir`, [d](B.md) and [e](docs/gone) and [f](https://x/y)")},
		"B.md":   {},
		"b/c.go": {},
	}
	looked, missing, err := missingPaths(fsys, "A.md")
	want := []string{"A.md names b/gone.go, which is not there", "A.md names docs/gone, which is not there"}
	if d := cmp.Diff(want, missing); d != "" || looked != 4 || err != nil {
		t.Errorf("looked at %d, %v: %s", looked, err, d)
	}
}

// TestDecisions: numbered without a hole, and each says when to look again.
func TestDecisions(t *testing.T) {
	files, err := fs.Glob(os.DirFS(repositoryRoot(t)), "docs/decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions found: %v", err)
	}
	for i, f := range files {
		if want := fmt.Sprintf("docs/decisions/%04d-", i+1); !strings.HasPrefix(f, want) {
			t.Errorf("%s: want a name that begins with %s", f, want)
		}
		text, err := fs.ReadFile(os.DirFS(repositoryRoot(t)), f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), fmt.Sprintf("# %d. ", i+1)) || !strings.Contains(string(text), "**Look again when**") {
			t.Errorf("%s: want the title \"# %d. ...\" and a line \"**Look again when** ...\"", f, i+1)
		}
	}
}
