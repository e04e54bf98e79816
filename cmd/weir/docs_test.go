package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// namedPaths returns the paths of this repository that a page in dir names:
// between backticks (a word with a slash, or a file name; from the root) and as
// targets of links (from the page).
func namedPaths(dir, page string) []string {
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
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, m := range link.FindAllStringSubmatch(page, -1) {
		add(path.Join(dir, m[1]))
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
		for _, p := range namedPaths(path.Dir(page), string(text)) {
			looked++
			if _, err := fs.Stat(fsys, path.Clean(p)); err != nil {
				missing = append(missing, fmt.Sprintf("%s names %s, which is not there", page, p))
			}
		}
	}
	return looked, missing, nil
}

// pages are the pages for people, from the root.
func pages() []string {
	return []string{"README.md", "CONTRIBUTING.md", "bench/README.md", "docs/guide.md", "docs/detectors.md", "docs/sinks.md", "docs/console.md", "docs/operations.md", "docs/scaling.md"}
}

func TestDocsNamePathsThatExist(t *testing.T) {
	looked, missing, err := missingPaths(os.DirFS(repositoryRoot(t)), pages()...)
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
		"d/C.md": {Data: []byte("[up](../B.md#x), [beside](D.md#y) and `b/c.go`")},
		"b/c.go": {},
	}
	looked, missing, err := missingPaths(fsys, "A.md", "d/C.md")
	want := []string{
		"A.md names b/gone.go, which is not there", "A.md names docs/gone, which is not there",
		"d/C.md names d/D.md, which is not there",
	}
	if d := cmp.Diff(want, missing); d != "" || looked != 7 || err != nil {
		t.Errorf("looked at %d, %v: %s", looked, err, d)
	}
}

// TestDecisions: each has a number of its own, and says when to look again.
func TestDecisions(t *testing.T) {
	files, err := fs.Glob(os.DirFS(repositoryRoot(t)), "docs/decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions found: %v", err)
	}
	last := 0
	for _, f := range files {
		var number int
		if _, err := fmt.Sscanf(path.Base(f), "%04d-", &number); err != nil || number <= last {
			t.Errorf("%s: want a name that begins with a number of four digits of its own", f)
		}
		last = number
		text, err := fs.ReadFile(os.DirFS(repositoryRoot(t)), f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), fmt.Sprintf("# %d. ", number)) || !strings.Contains(string(text), "**Look again when**") {
			t.Errorf("%s: want the title \"# %d. ...\" and a line \"**Look again when** ...\"", f, number)
		}
	}
}

// readPage reads a page of the repository.
func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repositoryRoot(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// sectionOf returns the part of a page below a heading of the second level.
func sectionOf(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut("\n"+page, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("there is no section %q", heading)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// blocks returns the fenced blocks of a language, "" for plain ones.
func blocks(page, language string) (list []string) {
	inside, wanted := false, false
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, "```"); ok {
			inside, wanted = !inside, !inside && strings.TrimSpace(rest) == language
			if wanted {
				list = append(list, "")
			}
			continue
		}
		if inside && wanted {
			list[len(list)-1] += line
		}
	}
	return list
}

// TestDocsLinkToHeadings: every #anchor is a heading of the page it leads to.
func TestDocsLinkToHeadings(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)#([^)]+)\)`)
	looked := 0
	for _, page := range pages() {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			looked++
			to := page
			if m[1] != "" {
				to = path.Join(path.Dir(page), m[1])
			}
			found := false
			for line := range strings.Lines(readPage(t, to)) {
				title := strings.TrimSpace(strings.TrimLeft(line, "#"))
				found = found || strings.HasPrefix(line, "#") && strings.ReplaceAll(strings.ToLower(title), " ", "-") == m[2]
			}
			if !found {
				t.Errorf("%s leads to %s#%s, which is no heading", page, to, m[2])
			}
		}
	}
	if looked < 10 {
		t.Errorf("looked at %d links only", looked)
	}
}

// wrongCall says what is wrong with a call of weir as a page shows it: "" when
// there is such a command and its help names the flags.
func wrongCall(line string) string {
	line = regexp.MustCompile(`'[^']*'`).ReplaceAllString(line, "x")
	line, _, _ = strings.Cut(line, " #")
	line = strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("|<>&;", r) })[0]
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "weir" {
		return fmt.Sprintf("%q is no call of weir", line)
	}
	if _, role := rolesOf(words[1]); !role && !slices.ContainsFunc(commands(), func(c command) bool { return c.name == words[1] }) {
		return fmt.Sprintf("%q: there is no command %s", line, words[1])
	}
	var help bytes.Buffer
	run(context.Background(), []string{words[1], "--help"}, nil, &help, io.Discard)
	for _, w := range words[2:] {
		if strings.HasPrefix(w, "-") && w != "-" && !regexp.MustCompile(`(?m)(^|\s)`+regexp.QuoteMeta(w)+`([\s,|]|$)`).Match(help.Bytes()) {
			return fmt.Sprintf("%q: the help of %s does not name %s", line, words[1], w)
		}
	}
	return ""
}

func TestDocsCallWhatThereIs(t *testing.T) {
	calls := map[string]bool{}
	for _, page := range pages() {
		for _, block := range blocks(readPage(t, page), "") {
			for line := range strings.Lines(block) {
				if strings.HasPrefix(line, "weir ") {
					calls[strings.Fields(line)[1]] = true
					if problem := wrongCall(line); problem != "" {
						t.Errorf("%s: %s", page, problem)
					}
				}
			}
		}
	}
	for _, c := range commands() {
		if !calls[c.name] {
			t.Errorf("no page shows weir %s", c.name)
		}
	}
	for _, wrong := range []string{"weir watch x", "weir analyze --outputs json x", "weir run -d x", "bin/weir run"} {
		if wrongCall(wrong) == "" {
			t.Errorf("%q passes", wrong)
		}
	}
}

// TestReadmeShowsWhatIsPrinted: the alert of the README is the sample's.
func TestReadmeShowsWhatIsPrinted(t *testing.T) {
	_, rest, _ := strings.Cut(readPage(t, "README.md"), "the test of this page compares")
	shown := blocks(rest, "")
	if len(shown) == 0 || !strings.Contains(shown[0], "  who ") {
		t.Fatal("the README shows no alert")
	}
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"analyze", "--quiet", filepath.Join("testdata", "sample.log.gz")}, nil, &out, &errs); code != exitOK {
		t.Fatalf("weir analyze ends with %d: %s", code, errs.String())
	}
	if !strings.Contains(out.String(), shown[0]) {
		t.Errorf("the README shows\n%s\nand weir prints\n%s", shown[0], out.String())
	}
}
