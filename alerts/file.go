package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"weir/pipeline"
)

// FileConfig configures a file with one alert revision a line, for whatever ships
// files. What Send returned for is on the disk.
type FileConfig struct {
	Path string `yaml:"path"`
	// MaxBytes and MaxAge begin another file: alerts.ndjson becomes
	// alerts.ndjson.1, that .2, up to Keep. 100 MB, 1d and 7 when 0.
	MaxBytes int64    `yaml:"max_bytes"`
	MaxAge   Duration `yaml:"max_age"`
	Keep     int      `yaml:"keep"`
}

func (c *FileConfig) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Path == "" {
		bad("path: is missing")
	}
	if c.MaxBytes != 0 && (c.MaxBytes < 1<<10 || c.MaxBytes > 1<<40) {
		bad("max_bytes: %d is not within 1024 to 1099511627776", c.MaxBytes)
	}
	if t := time.Duration(c.MaxAge); t != 0 && t < time.Minute {
		bad("max_age: %s is under 1m", t)
	}
	if c.Keep < 0 || c.Keep > 1000 {
		bad("keep: %d is not within 1 to 1000", c.Keep)
	}
	return errs
}

type file struct {
	cfg   FileConfig
	write writer
	f     *os.File
	size  int64
	born  time.Time
}

func newFile(c FileConfig, w writer) (*file, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 100_000_000
	}
	if c.MaxAge == 0 {
		c.MaxAge = Duration(24 * time.Hour)
	}
	if c.Keep == 0 {
		c.Keep = 7
	}
	return &file{cfg: c, write: w}, nil
}

// Send appends the alerts and has them written to the disk.
func (s *file) Send(_ context.Context, batch []pipeline.Alert) error {
	var lines []byte
	for i := range batch {
		lines = append(s.write.append(lines, &batch[i]), '\n')
	}
	if err := s.append(lines); err != nil {
		if s.f != nil {
			_ = s.f.Close() // and look again at the next try, also at half a line
			s.f = nil
		}
		return fmt.Errorf("write alerts: %w", err)
	}
	return nil
}

// Close closes the file; a later Send opens it again.
func (s *file) Close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}

func (s *file) append(lines []byte) error {
	if s.f != nil && s.replaced() {
		_ = s.f.Close()
		s.f = nil
	}
	if s.f == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.size > 0 && (s.size+int64(len(lines)) > s.cfg.MaxBytes || time.Since(s.born) > time.Duration(s.cfg.MaxAge)) {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	n, err := s.f.Write(lines)
	s.size += int64(n)
	if err != nil {
		return err
	}
	return s.f.Sync()
}

// replaced reports whether another rotated or removed the file.
func (s *file) replaced() bool {
	at, err := os.Stat(s.cfg.Path)
	if err != nil {
		return true
	}
	ours, err := s.f.Stat()
	return err != nil || !os.SameFile(at, ours)
}

// open opens the file and takes away half a line that a crash left at its end.
func (s *file) open() error {
	f, err := os.OpenFile(s.cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && st.Size() > 0 {
		err = mend(f, st.Size())
	}
	var end int64
	if err == nil {
		end, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	s.f, s.size, s.born = f, end, time.Now()
	if end > 0 {
		s.born = st.ModTime()
	}
	return syncDir(s.cfg.Path)
}

// mend cuts f behind its last whole line.
func mend(f *os.File, size int64) error {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		from := max(end-int64(len(buf)), 0)
		b := buf[:end-from]
		if _, err := f.ReadAt(b, from); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			if from+int64(i)+1 == size {
				return nil
			}
			return f.Truncate(from + int64(i) + 1)
		}
		end = from
	}
	return f.Truncate(0)
}

// rotate begins another file.
func (s *file) rotate() error {
	if err := s.f.Close(); err != nil {
		return err
	}
	s.f = nil
	name := func(n int) string { return fmt.Sprintf("%s.%d", s.cfg.Path, n) }
	for n := s.cfg.Keep - 1; n > 0; n-- {
		if err := os.Rename(name(n), name(n+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(s.cfg.Path, name(1)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return s.open()
}

// syncDir makes the name of path durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
