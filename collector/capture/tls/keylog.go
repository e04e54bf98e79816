package tls

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
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
	if k.secrets == nil {
		k.secrets = map[[32]byte]*secrets{}
	}
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if !k.line(line) {
			k.bad++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read key log: %w", err)
	}
	return nil
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

func (k *KeyLog) of(random [32]byte) (secrets, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s := k.secrets[random]
	if s == nil {
		return secrets{}, false
	}
	return *s, true
}
