// Package services runs the real servers that weir works with, for tests and
// for trying things out: no containers, nothing installed. What they need is
// fetched once, checked against the hashes kept here, and kept in the user's
// cache directory.
package services

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ErrAbsent is wrapped by errors about something that this machine does not
// have, and without which a service cannot run: tests skip.
var ErrAbsent = errors.New("not on this machine")

// fetchWithin is how long fetching may take: where the network swallows what is sent,
// tests have to go on.
const fetchWithin = 4 * time.Minute

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
