package collector

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// ErrEmpty is wrapped by the error for an input without a single byte.
var ErrEmpty = errors.New("the file is empty")

// ErrStream is wrapped by the error of Head for an input that can be read only
// once (stdin, a pipe): spool it first.
var ErrStream = errors.New("not a regular file")

// Expand turns command-line arguments into inputs: "-", names, and patterns for
// those that no file is named like. The result is sorted and has no input
// twice. The error names every argument that stands for nothing; what the
// others stand for is returned with it.
func Expand(args []string) ([]string, error) {
	var inputs []string
	var problems []error
	for _, arg := range args {
		if arg == "-" {
			inputs = append(inputs, arg)
			continue
		}
		fi, err := os.Stat(arg)
		if errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(arg, "*?[") {
			found, err := expandPattern(arg)
			if err != nil {
				problems = append(problems, err)
			}
			inputs = append(inputs, found...)
			continue
		}
		if err != nil {
			problems = append(problems, openError(arg, err))
		} else if fi.IsDir() {
			problems = append(problems, directoryError(arg))
		} else {
			inputs = append(inputs, arg)
		}
	}
	slices.Sort(inputs)
	return slices.Compact(inputs), errors.Join(problems...)
}

func expandPattern(pattern string) ([]string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("expand %q: %w; a literal [ is written \\[", pattern, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("expand %q: no file matches", pattern)
	}
	files := slices.DeleteFunc(found, func(name string) bool {
		fi, err := os.Stat(name)
		return err == nil && fi.IsDir()
	})
	if len(files) == 0 {
		return nil, fmt.Errorf("expand %q: only directories match", pattern)
	}
	return files, nil
}

func directoryError(name string) error {
	return fmt.Errorf("open %s: it is a directory; name the files in it, such as %s", name, filepath.Join(name, "*.log"))
}

// openError says what is wrong with name and what helps.
func openError(name string, err error) error {
	err = bare(err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open %s: %w", name, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open %s: %w; run as a member of the file's group (often adm), or let a privileged user pipe it: sudo cat %s | weir analyze -", name, err, name)
	}
	return fmt.Errorf("open %s: %w", name, err)
}

// bare is err without the file's name, where a message has it already.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// File is an input opened for reading from its beginning to its end, already
// decompressed. One goroutine uses it.
type File struct {
	name     string
	file     *os.File // nil when it is not ours to close
	raw      *countingReader
	buffered *bufio.Reader // over raw
	text     *bufio.Reader // decompressed
	zstd     *zstd.Decoder
	size     int64
	packed   string // "gzip", "zstd", or "" for plain
}

// OpenFile opens a plain, gzip or zstd file, which its first bytes tell, or
// stdin when name is "-". An error says what to do; a file that is empty gives
// ErrEmpty.
func OpenFile(name string, stdin io.Reader) (*File, error) {
	f, err := openStream(name, stdin)
	if err != nil {
		return nil, err
	}
	head, err := f.text.Peek(sniffBytes)
	if len(head) == 0 && errors.Is(err, io.EOF) {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", f.name, ErrEmpty)
	}
	if what := sniff(head); what != "" {
		f.Close()
		return nil, fmt.Errorf("open %s: it is not a log: %s", f.name, what)
	}
	return f, nil
}

// OpenBinary is OpenFile without a look at the content: of inputs that are no lines.
func OpenBinary(name string, stdin io.Reader) (*File, error) { return openStream(name, stdin) }

// openStream is OpenFile without a look at the content.
func openStream(name string, stdin io.Reader) (*File, error) {
	f := &File{name: name, size: -1}
	if name == "-" {
		f.name, f.raw = "stdin", &countingReader{r: stdin}
	} else if err := f.openNamed(name); err != nil {
		return nil, err
	}
	f.buffered = bufio.NewReaderSize(f.raw, 64<<10)
	if err := f.unpack(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *File) openNamed(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return openError(name, err)
	}
	fi, err := file.Stat()
	if err != nil {
		file.Close()
		return openError(name, err)
	}
	if fi.IsDir() {
		file.Close()
		return directoryError(name)
	}
	if fi.Mode().IsRegular() {
		f.size = fi.Size()
	}
	f.file, f.raw = file, &countingReader{r: file}
	return nil
}

const sniffBytes = 4096

// The first bytes of what OpenFile unpacks.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// zstdWindow bounds the memory that a zstd frame may ask for.
const zstdWindow = 128 << 20

func (f *File) unpack() error {
	head, _ := f.buffered.Peek(4)
	switch {
	case bytes.HasPrefix(head, []byte(gzipMagic)):
		f.packed = "gzip"
		z, err := gzip.NewReader(f.buffered)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // within the header
		}
		if err != nil {
			return f.damage(err, 0)
		}
		f.text = bufio.NewReaderSize(z, sniffBytes)
	case bytes.HasPrefix(head, []byte(zstdMagic)):
		f.packed = "zstd"
		z, err := zstd.NewReader(f.buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return f.damage(err, 0)
		}
		f.zstd, f.text = z, bufio.NewReaderSize(z, sniffBytes)
	default:
		f.text = f.buffered
	}
	return nil
}

// sniff says what the first bytes of an input are when they are no text, or "".
func sniff(head []byte) string {
	has := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case has("\xff\xfe"), has("\xfe\xff"):
		return "it is UTF-16 text; convert it with: iconv -f UTF-16 -t UTF-8"
	case has("BZh"):
		return "it is compressed with bzip2; pipe it: bzip2 -dc FILE | weir analyze -"
	case has("\xfd7zXZ\x00"):
		return "it is compressed with xz; pipe it: xz -dc FILE | weir analyze -"
	case has("PK\x03\x04"):
		return "it is a zip archive; pipe a member of it: unzip -p FILE MEMBER | weir analyze -"
	case has(gzipMagic), has(zstdMagic):
		return "it is compressed twice; unpack it once more"
	case has("\xd4\xc3\xb2\xa1"), has("\xa1\xb2\xc3\xd4"), has("\x4d\x3c\xb2\xa1"), has("\xa1\xb2\x3c\x4d"), has("\x0a\x0d\x0d\x0a"):
		return "it is a packet capture; weir analyze reads it"
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return "it is a tar archive; pipe a member of it: tar -xOf FILE MEMBER | weir analyze -"
	}
	// A log that was truncated under its writer begins with a hole of NULs.
	if bytes.IndexByte(bytes.TrimLeft(head, "\x00"), 0) >= 0 {
		return "it holds binary data (NUL bytes)"
	}
	return ""
}

// Name is what messages call the input.
func (f *File) Name() string { return f.name }

// Size is the file's size as stored, or -1 for a stream.
func (f *File) Size() int64 { return f.size }

// Damage explains an error of Read; before is how many lines or records were read.
func (f *File) Damage(err error, before int64) error { return f.damage(err, before) }

// Read reads uncompressed bytes. Errors other than io.EOF are to be explained
// with damage.
func (f *File) Read(p []byte) (int, error) { return f.text.Read(p) }

// Raw is how many stored bytes were used so far.
func (f *File) Raw() int64 { return f.raw.n - int64(f.buffered.Buffered()) }

// Close closes what OpenFile opened.
func (f *File) Close() error {
	if f.zstd != nil {
		f.zstd.Close()
	}
	if f.file != nil {
		return f.file.Close()
	}
	return nil
}

// DamageError tells that an input could not be read to its end. What was read
// before is good.
type DamageError struct {
	Name   string
	Packed string // gzip, zstd, or "" for a plain input
	Byte   int64  // where, in the bytes as stored
	Lines  int64  // whole lines read before
	Err    error
}

func (e *DamageError) Error() string {
	what := fmt.Sprintf("%v at byte %d", e.Err, e.Byte)
	switch {
	case e.Packed != "" && errors.Is(e.Err, io.ErrUnexpectedEOF):
		what = fmt.Sprintf("unexpected end of the %s stream at byte %d", e.Packed, e.Byte)
	case e.Packed != "":
		what = fmt.Sprintf("damaged %s stream at byte %d: %v", e.Packed, e.Byte, e.Err)
	}
	return fmt.Sprintf("read %s: %s; lines up to %d were read", e.Name, what, e.Lines)
}

func (e *DamageError) Unwrap() error { return e.Err }

func (f *File) damage(err error, lines int64) error {
	return &DamageError{Name: f.name, Packed: f.packed, Byte: f.Raw(), Lines: lines, Err: bare(err)}
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
