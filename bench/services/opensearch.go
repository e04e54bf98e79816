package services

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// openSearchJars are what a node needs of Maven Central, as kafkaJars.
//
//go:embed opensearch.jars
var openSearchJars string

// openSearchMain starts a node out of the jars; Java compiles it as it starts.
//
//go:embed OpenSearch.java
var openSearchMain []byte

const (
	openSearchVersion = "2.19.1" // the last line that runs on Java 17
	// openSearchWithin is how long a node may take to answer; it takes some ten
	// seconds on an idle machine.
	openSearchWithin = 2 * time.Minute
)

// OpenSearch is a cluster of one node, with its data in a directory.
type OpenSearch struct {
	dir   string
	java  string
	jars  string
	port  int
	other int // of the transport
	cmd   *exec.Cmd
	ended chan struct{}
}

// NewOpenSearch makes a node's data in dir, which is empty, and starts it. Without
// a JDK 17, or Maven to fetch the node with, the error wraps ErrAbsent.
func NewOpenSearch(dir string) (*OpenSearch, error) {
	java, err := exec.LookPath("java")
	if err == nil {
		_, err = exec.LookPath("javac") // a runtime alone compiles nothing
	}
	if err != nil {
		return nil, fmt.Errorf("find java: %w: install a JDK, 17 or newer", ErrAbsent)
	}
	jars, err := fetch("opensearch-"+openSearchVersion, openSearchJars)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "OpenSearch.java")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "config"), 0o700), os.WriteFile(program, openSearchMain, 0o600)); err != nil {
		return nil, err
	}
	s := &OpenSearch{dir: dir, java: java, jars: filepath.Join(jars, "*"), port: ports[0], other: ports[1]}
	return s, s.Start()
}

// Start starts the node again after Kill or Stop, and returns once it answers.
func (s *OpenSearch) Start() error {
	out, err := os.OpenFile(filepath.Join(s.dir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(s.java, "-Xmx512m", "-cp", s.jars, filepath.Join(s.dir, "OpenSearch.java"), s.dir, strconv.Itoa(s.port), strconv.Itoa(s.other))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.cmd, s.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for end := time.Now().Add(openSearchWithin); time.Now().Before(end); {
		if resp, err := http.Get(s.URL() + "/_cluster/health?wait_for_status=yellow&timeout=1s"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(out.Name())
			return fmt.Errorf("the node ended at once:\n%s", text[max(0, len(text)-4096):])
		case <-time.After(100 * time.Millisecond):
		}
	}
	s.Kill()
	return fmt.Errorf("the node does not answer at %s", s.URL())
}

// URL is where the node answers.
func (s *OpenSearch) URL() string { return "http://" + s.Address() }

// Address is HOST:PORT of it.
func (s *OpenSearch) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Kill ends the node at once.
func (s *OpenSearch) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// Stop ends the node as an operator would.
func (s *OpenSearch) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		return nil
	case <-time.After(30 * time.Second):
		s.Kill()
		return errors.New("the node did not stop within 30 s")
	}
}
