package services

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// The engine is ClickHouse's own, as a library: what a server of that version
// answers, it answers. npm fetches it, from where npm is set up to.
const (
	clickHouseVersion = "26.7.3-stable.1"
	clickHousePackage = "@chdb/lib-linux-x64-gnu"
	clickHouseSum     = "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==" // SHA-512
	clickHouseWithin  = 60 * time.Second
)

// ClickHouse is a server with its data in a directory. Everybody on this machine
// may use it, as the user "default" without a password.
type ClickHouse struct {
	dir     string
	program string
	library string
	ports   []int
	cmd     *exec.Cmd
	ended   chan struct{}
}

// NewClickHouse starts a server with its data in dir. Where there is no engine
// for this machine, or no npm to fetch it with, the error wraps ErrAbsent.
func NewClickHouse(dir string) (*ClickHouse, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("find an engine for %s on %s: %w", runtime.GOOS, runtime.GOARCH, ErrAbsent)
	}
	cache, err := cacheDir("clickhouse-" + clickHouseVersion)
	if err != nil {
		return nil, err
	}
	c := &ClickHouse{dir: dir, library: filepath.Join(cache, "libchdb.so"), program: filepath.Join(dir, "clickhouse")}
	if err := fetchClickHouse(cache, c.library); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-o", c.program, "weir/bench/services/clickhouse")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the server: %w\n%s", err, out)
	}
	if c.ports, err = freePorts(2); err != nil {
		return nil, err
	}
	return c, c.Start()
}

// fetchClickHouse puts the library where it belongs, whole: several tests may
// fetch at a time.
func fetchClickHouse(cache, library string) error {
	if _, err := os.Stat(library); err == nil {
		return nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("find npm: %w: install Node, which fetches the engine", ErrAbsent)
	}
	work, err := os.MkdirTemp(cache, "fetch")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithTimeout(context.Background(), fetchWithin)
	defer cancel()
	pack := exec.CommandContext(ctx, npm, "pack", "--silent", clickHousePackage+"@"+clickHouseVersion)
	pack.Dir = work
	if out, err := pack.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch %s: %w: %w\n%s", clickHousePackage, ErrAbsent, err, out)
	}
	packed, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return fmt.Errorf("fetch %s: npm left %v", clickHousePackage, packed)
	}
	part := filepath.Join(work, "libchdb.so")
	if err := unpack(packed[0], "package/libchdb.so", part); err != nil {
		return fmt.Errorf("unpack %s: %w", clickHousePackage, err)
	}
	return os.Rename(part, library)
}

// unpack writes the file called name of the archive to path, if the archive is
// the one that was looked at when its sum was written down.
func unpack(archive, name, path string) error {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha512.New()
	if _, err := io.Copy(sum, in); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != clickHouseSum {
		return fmt.Errorf("its SHA-512 is %s, want %s", got, clickHouseSum)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	for files := tar.NewReader(z); ; {
		h, err := files.Next()
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if h.Name != name {
			continue
		}
		out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, files)
		return errors.Join(err, out.Close())
	}
}

// Address is HOST:PORT of the native protocol, the same over restarts.
func (c *ClickHouse) Address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports[0]))
}

// HTTPAddress is HOST:PORT of the HTTP protocol.
func (c *ClickHouse) HTTPAddress() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports[1]))
}

// Start starts the server again after Kill or Stop, and returns once it answers.
func (c *ClickHouse) Start() error {
	out, err := os.OpenFile(filepath.Join(c.dir, "clickhouse.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(c.program, c.library, filepath.Join(c.dir, "data"), strconv.Itoa(c.ports[0]), strconv.Itoa(c.ports[1]))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	c.cmd, c.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	client := &http.Client{Timeout: time.Second}
	for end := time.Now().Add(clickHouseWithin); time.Now().Before(end); {
		if c.answers(client) {
			return nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(out.Name())
			return fmt.Errorf("the server ended at once:\n%s", text[max(0, len(text)-4096):])
		case <-time.After(50 * time.Millisecond):
		}
	}
	c.Kill()
	return fmt.Errorf("nobody answers on %s", c.HTTPAddress())
}

func (c *ClickHouse) answers(client *http.Client) bool {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+c.HTTPAddress()+"/ping", nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	conn, err := net.DialTimeout("tcp", c.Address(), time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil && res.StatusCode == http.StatusOK
}

// Running reports whether the server has not ended, be it by itself: the engine is a
// library in a program of ours, and on a machine that is overloaded it gives up now and then.
func (c *ClickHouse) Running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// Log is the end of what the server said.
func (c *ClickHouse) Log() string {
	text, err := os.ReadFile(filepath.Join(c.dir, "clickhouse.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-16<<10):])
}

// Pid is the server's process.
func (c *ClickHouse) Pid() int { return c.cmd.Process.Pid }

// Pause and Resume stop the server's clock, so to say: it neither answers nor
// ends.
func (c *ClickHouse) Pause() error { return c.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (c *ClickHouse) Resume() error { return c.cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the server at once.
func (c *ClickHouse) Kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// Stop ends the server as an operator would.
func (c *ClickHouse) Stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
		return nil
	case <-time.After(30 * time.Second):
		c.Kill()
		return errors.New("the server did not stop within 30 s")
	}
}
