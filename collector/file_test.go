package collector

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"weir/pipeline"
)

// plainParser takes a line as a path. One that begins with '!' is rejected; of
// one with '%' the query is made in the scratch memory.
type plainParser struct{}

func (plainParser) Parse(f *Fields, line []byte) error {
	*f = Fields{Bytes: -1, Duration: -1, Scratch: f.Scratch[:0]}
	if len(line) == 0 {
		return RejectEmpty
	}
	if line[0] == '!' {
		return RejectFormat
	}
	f.Path = unsafe.String(&line[0], len(line))
	if bytes.IndexByte(line, '%') >= 0 {
		f.Scratch = append(append(f.Scratch, line...), " unescaped"...)
		f.Query = unsafe.String(&f.Scratch[0], len(f.Scratch))
	}
	return nil
}

func plainFormat() *Format {
	return &Format{
		Name: "plain", New: func() Parser { return plainParser{} },
		ClientPrefix: func(line []byte) []byte {
			client, _, ok := bytes.Cut(line, []byte(" "))
			if !ok {
				return nil
			}
			return client
		},
	}
}

// account gives a token out of memory that it reuses.
func account() Identify {
	var token []byte
	return func(r *pipeline.Request, f *Fields) {
		token = append(append(token[:0], "token of "...), f.Path...)
		r.Account = unsafe.String(&token[0], len(token))
		r.Owner = pipeline.Hash64(r.Account)
	}
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func gzipped(parts ...string) []byte {
	var buf bytes.Buffer
	for _, p := range parts {
		z := gzip.NewWriter(&buf)
		z.Write([]byte(p))
		z.Close()
	}
	return buf.Bytes()
}

func zstded(parts ...string) []byte {
	var out []byte
	for _, p := range parts {
		z, _ := zstd.NewWriter(nil)
		out = z.EncodeAll([]byte(p), out)
		z.Close()
	}
	return out
}

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	f := func(name string, data []byte, want string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if data != nil {
			writeFile(t, path, data)
		}
		_, err := OpenFile(path, nil)
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), dir+"/", ""), want) {
			t.Errorf("open %s: %v; want %q", name, err, want)
		}
		if _, herr := Head(path); herr == nil || err != nil && herr.Error() != err.Error() {
			t.Errorf("head %s: %v; want %v", name, herr, err)
		}
	}
	f("none", nil, "open none: no such file or directory")
	f("empty", []byte{}, "open empty: the file is empty")
	f("empty.gz", gzipped(""), "open empty.gz: the file is empty")
	f("bin", []byte("\x7fELF\x01\x00\x00\x02more"), "it holds binary data")
	f("utf16", []byte("\xff\xfeG\x00E\x00"), "it is UTF-16 text; convert it with")
	f("x.bz2", []byte("BZh91AY"), "bzip2 -dc")
	f("x.gz.gz", gzipped(string(gzipped("/a\n"))), "compressed twice")
	f("cap", []byte("\xd4\xc3\xb2\xa1\x02\x00"), "packet capture")
	os.Mkdir(filepath.Join(dir, "sub"), 0o700)
	f("sub", nil, "open sub: it is a directory; name the files in it, such as sub/*.log")
	if os.Getuid() != 0 {
		f("closed", []byte("/a\n"), "")
		os.Chmod(filepath.Join(dir, "closed"), 0)
		f("closed", nil, "permission denied; run as a member of the file's group")
	}
	if err := openError("x.log", &os.PathError{Op: "open", Path: "x.log", Err: os.ErrPermission}); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "sudo cat x.log | weir analyze -") {
		t.Error(err)
	}
	if _, err := OpenFile(filepath.Join(dir, "empty"), nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("%v is not ErrEmpty", err)
	}
	hole := writeFile(t, filepath.Join(dir, "hole"), append(make([]byte, 6000), "/a\n/b\n"...))
	if got := readAll(t, ReaderConfig{Path: hole, Workers: 1}); got.Lines != 2 || got.Requests[1].Path != "/b" {
		t.Errorf("a log with a hole: %+v", got)
	}
	got := readAll(t, ReaderConfig{Path: filepath.Join(dir, "none"), Workers: 2})
	if len(got.Errs) != 1 || len(got.Blocks) != 0 {
		t.Errorf("a missing file: %+v", got)
	}
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.log", "a.log", "c.txt", "[1].log"} {
		writeFile(t, filepath.Join(dir, name), []byte("/\n"))
	}
	os.MkdirAll(filepath.Join(dir, "logs.d", "deep"), 0o700)
	f := func(args, want, wantErr string) {
		t.Helper()
		var in []string
		for a := range strings.FieldsSeq(args) {
			if a != "-" {
				a = filepath.Join(dir, a)
			}
			in = append(in, a)
		}
		got, err := Expand(in)
		text := strings.ReplaceAll(strings.Join(got, " "), dir+"/", "")
		if text != want {
			t.Errorf("expand %s = %s; want %s", args, text, want)
		}
		if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), dir+"/", ""), wantErr)) {
			t.Errorf("expand %s: %v; want %q", args, err, wantErr)
		}
	}
	f("b.log a.log b.log", "a.log b.log", "")
	f("- *.log", "- [1].log a.log b.log", "")
	f("[1].log", "[1].log", "") // a name before a pattern
	f("*.gz a.log", "a.log", `expand "*.gz": no file matches`)
	f("gone.log ?.zip c.txt", "c.txt", "open gone.log: no such file or directory\nexpand \"?.zip\": no file matches")
	f("logs.d", "", "it is a directory")
	f("logs.d/*", "", "only directories match")
	f("[", "", `syntax error in pattern; a literal [ is written \[`)
}

func TestHead(t *testing.T) {
	f := func(data []byte, want ...string) {
		t.Helper()
		got, err := Head(writeFile(t, "x.log", data))
		var text []string
		for _, l := range got {
			text = append(text, string(l))
		}
		if diff := cmp.Diff(want, text); diff != "" || err != nil {
			t.Errorf("head of %.50q: %v %s", data, err, diff)
		}
	}
	f([]byte("/a\r\n/b"), "/a", "/b")
	f(gzipped("/a\n", "/b\n"), "/a", "/b")
	f(gzipped("/a\n/b\n")[:27], "/a", "/b")
	many := strings.Repeat("/x\n", 1000)
	got, err := Head(writeFile(t, "many.log", []byte(many)))
	if err != nil || len(got) != headLines {
		t.Errorf("%d lines, %v", len(got), err)
	}
	if _, err := Head("-"); !errors.Is(err, ErrStream) {
		t.Errorf("head of stdin: %v", err)
	}
}

func TestSpoolStdin(t *testing.T) {
	dir := t.TempDir()
	name, cleanup, err := SpoolStdin(strings.NewReader("/a\n"), dir)
	if err != nil {
		t.Fatal(err)
	}
	got := readAll(t, ReaderConfig{Path: name, Source: "-", Workers: 1})
	if len(got.Requests) != 1 {
		t.Errorf("%+v", got)
	}
	if fi, _ := os.Stat(name); fi.Mode().Perm() != 0o600 {
		t.Errorf("the spool has mode %v", fi.Mode())
	}
	if err := cleanup(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
	if _, _, err := SpoolStdin(io.MultiReader(strings.NewReader("x"), &failing{}), dir); err == nil {
		t.Error("a failing stdin is no error")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left after a failure", left)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errors.New("broken") }
