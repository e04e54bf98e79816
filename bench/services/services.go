// Package services runs the real servers that weir works with, for tests and
// for trying things out: no containers, nothing installed. What they need is
// fetched once, checked against the hashes kept here, and kept in the user's
// cache directory.
package services

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// ErrAbsent is wrapped by errors about something that this machine does not
// have, and without which a service cannot run: tests skip.
var ErrAbsent = errors.New("not on this machine")

// cacheDir is where fetched files are kept.
func cacheDir(name string) (string, error) {
	base := os.Getenv("WEIR_SERVICES")
	if base == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		base = filepath.Join(cache, "weir-services")
	}
	dir := filepath.Join(base, name)
	return dir, os.MkdirAll(dir, 0o755)
}

// fetch makes sure that file holds what sum is the SHA-256 of, from url if it
// is not there yet.
func fetch(file, url, sum string) error {
	if data, err := os.ReadFile(file); err == nil && hashOf(data) == sum {
		return nil
	}
	client := http.Client{Timeout: 2 * time.Minute}
	resp, err := client.Get(url)
	if err != nil {
		return fmt.Errorf("fetch %s: %w: %w", url, ErrAbsent, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch %s: %w: %s", url, ErrAbsent, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return fmt.Errorf("fetch %s: %w: %w", url, ErrAbsent, err)
	}
	if got := hashOf(data); got != sum {
		return fmt.Errorf("fetch %s: its SHA-256 is %s, want %s", url, got, sum)
	}
	// Several tests may fetch at a time: whole files only.
	temporary, err := os.CreateTemp(filepath.Dir(file), "fetch")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// freePorts returns n ports of loopback that nobody listens on.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
