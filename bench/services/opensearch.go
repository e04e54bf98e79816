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
	port  int
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
	out, err := os.Create(filepath.Join(dir, "node.log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(java, "-Xmx512m", "-cp", filepath.Join(jars, "*"), program, dir, strconv.Itoa(ports[0]), strconv.Itoa(ports[1]))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &OpenSearch{port: ports[0], cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(s.ended)
	}()
	for end := time.Now().Add(openSearchWithin); time.Now().Before(end); {
		if resp, err := http.Get(s.URL() + "/_cluster/health?wait_for_status=yellow&timeout=1s"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case <-s.ended:
			text, _ := os.ReadFile(out.Name())
			return nil, fmt.Errorf("the node ended at once:\n%s", text[max(0, len(text)-4096):])
		case <-time.After(100 * time.Millisecond):
		}
	}
	s.Kill()
	return nil, fmt.Errorf("the node does not answer at %s", s.URL())
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
