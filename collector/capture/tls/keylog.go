package tls

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// MaxKeys is how many connections' secrets a KeyLog holds; further ones are
// counted and left out.
const MaxKeys = 1 << 20

// KeyLog is the secrets of connections, as SSLKEYLOGFILE and the Decryption
// Secrets Blocks of pcapng have them. It may be used from several goroutines.
type KeyLog struct {
	mu      sync.RWMutex
	secrets map[[32]byte]*secrets
	bad     int
	full    int

	path string // of a file that grows; "" follows none
	read int64  // bytes of it that were read
}

// secrets are those of one connection, by the client's random.
type secrets struct {
	master                 []byte // TLS 1.2
	handshake, application [2][]byte
}

// Read takes lines of an NSS key log from r until its end. Lines that are none
// are counted and skipped; labels that serve nothing here are skipped.
func (k *KeyLog) Read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 64<<10)
	k.mu.Lock()
	defer k.mu.Unlock()
	for lines.Scan() {
		k.lines(lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read key log: %w", err)
	}
	return nil
}

// Follow has the log take what is written to a file, from its beginning on: it is
// looked at whenever secrets are asked for that are not known. The file may come
// later, be cut or be replaced.
func (k *KeyLog) Follow(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.path, k.read = path, 0
}

// more reads what was added to the file and reports whether anything was. What
// cannot be read now may be later: an error says no more than nothing.
func (k *KeyLog) more() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.path == "" {
		return false
	}
	fi, err := os.Stat(k.path)
	if err != nil || fi.Size() == k.read {
		return false
	}
	f, err := os.Open(k.path)
	if err != nil {
		return false
	}
	defer f.Close()
	if fi.Size() < k.read {
		k.read = 0 // it was cut
	}
	b := make([]byte, min(fi.Size()-k.read, maxMore))
	n, err := f.ReadAt(b, k.read)
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	whole := bytes.LastIndexByte(b[:n], '\n') + 1 // the rest of the line comes later
	if whole == 0 && n == maxMore {
		whole = n // no key log has such lines
	}
	k.read += int64(whole)
	k.lines(b[:whole])
	return whole > 0
}

// maxMore is how much of a file is read at once.
const maxMore = 4 << 20

// lines takes lines; the caller holds the lock.
func (k *KeyLog) lines(b []byte) {
	if k.secrets == nil {
		k.secrets = map[[32]byte]*secrets{}
	}
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && !k.line(line) {
			k.bad++
		}
	}
}

// line takes one line: label, client random, secret; the caller holds the lock.
func (k *KeyLog) line(line []byte) bool {
	label, rest, _ := bytes.Cut(line, []byte(" "))
	hexRandom, hexSecret, _ := bytes.Cut(rest, []byte(" "))
	var random [32]byte
	secret := make([]byte, hex.DecodedLen(len(hexSecret)))
	if len(hexRandom) != 64 || len(secret) < 16 || len(secret) > 64 {
		return false
	}
	if _, err := hex.Decode(random[:], hexRandom); err != nil {
		return false
	}
	if _, err := hex.Decode(secret, hexSecret); err != nil {
		return false
	}
	s := k.secrets[random]
	if s == nil {
		if len(k.secrets) >= MaxKeys {
			k.full++
			return true
		}
		s = &secrets{}
		k.secrets[random] = s
	}
	switch string(label) {
	case "CLIENT_RANDOM":
		s.master = secret
	case "CLIENT_HANDSHAKE_TRAFFIC_SECRET":
		s.handshake[0] = secret
	case "SERVER_HANDSHAKE_TRAFFIC_SECRET":
		s.handshake[1] = secret
	case "CLIENT_TRAFFIC_SECRET_0":
		s.application[0] = secret
	case "SERVER_TRAFFIC_SECRET_0":
		s.application[1] = secret
	}
	return true
}

// Len is how many connections have secrets, and how many lines were unreadable
// or beyond MaxKeys.
func (k *KeyLog) Len() (connections, bad, full int) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.secrets), k.bad, k.full
}

func (k *KeyLog) of(random [32]byte) (s secrets, ok bool) {
	for s, ok = k.known(random); !ok && k.more(); {
		s, ok = k.known(random)
	}
	return s, ok
}

func (k *KeyLog) known(random [32]byte) (secrets, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s := k.secrets[random]
	if s == nil {
		return secrets{}, false
	}
	return *s, true
}
