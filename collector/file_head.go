package collector

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// headLines is how many lines Head gives.
const headLines = 200

// Head returns the first lines of a file, at most 200 and 256 KiB, for Detect.
// They are copies. Stdin and pipes give ErrStream, since what is read of them
// is gone. A file that is damaged further on, or at once, is no error as long as
// there is a line.
func Head(name string) ([][]byte, error) {
	if name == "-" {
		return nil, fmt.Errorf("look at stdin: %w", ErrStream)
	}
	if fi, err := os.Stat(name); err == nil && !fi.IsDir() && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("look at %s: %w", name, ErrStream)
	}
	f, err := OpenFile(name, nil)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := splitter{src: f, limit: lineLimit, c: &chunk{data: make([]byte, 0, chunkSize), line: 1}}
	err = s.fill()
	c := s.cut(&chunk{}, errors.Is(err, io.EOF))
	var lines [][]byte
	eachLine(c.data, func(line []byte, _ int) bool {
		lines = append(lines, line)
		return len(lines) < headLines
	})
	if err != nil && !errors.Is(err, io.EOF) && len(lines) == 0 {
		return nil, f.damage(err, 0)
	}
	return lines, nil
}

// SpoolStdin copies r, as it is, to a new file in dir (the system's directory
// for temporary files when empty) that only this user can read, so that it can
// be read twice. cleanup removes it.
func SpoolStdin(r io.Reader, dir string) (name string, cleanup func() error, err error) {
	f, err := os.CreateTemp(dir, "weir-stdin-*")
	if err != nil {
		return "", nil, fmt.Errorf("spool stdin: %w; set TMPDIR to a directory that can be written", err)
	}
	cleanup = func() error { return os.Remove(f.Name()) }
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = cleanup() // the error that matters is the first
		return "", nil, fmt.Errorf("spool stdin to %s: %w; set TMPDIR to a directory with more room", f.Name(), err)
	}
	return f.Name(), cleanup, nil
}
