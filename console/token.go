package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"weir/pipeline"
)

// An API token is weir_ID_SECRET with a check at its end:
//
//	weir_k3v5qd2m7a_4dXo...43 characters of base64url...8AAAAAA
//
// Scanners for leaked secrets find it by its shape and the CRC-32. The secret has
// 256 random bits, so one fast keyed hash of the whole is enough to keep; a slow
// hash is for passwords, which people choose.
const (
	tokenPrefix = "weir_"
	tokenID     = 10 // characters of base32: 50 random bits, only to look it up
	tokenSecret = 43 // characters of base64url of 32 bytes
	tokenCheck  = 6  // of 4 bytes
	tokenLength = len(tokenPrefix) + tokenID + 1 + tokenSecret + tokenCheck
)

// Token is what is stored of a token.
type Token struct {
	ID      string
	Name    string
	MAC     []byte
	Roles   []string
	Creator string
	Created pipeline.Time
	Expires pipeline.Time // 0: never
	Revoked pipeline.Time // 0: it is not
	Used    pipeline.Time // within a minute or so; 0: never
}

// NewToken makes a token: text is for its holder alone, id is what it is looked
// up by.
func NewToken() (text, id string) {
	var random [32 + 7]byte
	_, _ = rand.Read(random[:]) // never fails
	id = strings.ToLower(base32.StdEncoding.EncodeToString(random[32:]))[:tokenID]
	body := tokenPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(random[:32])
	return body + crcOf(body), id
}

func crcOf(body string) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(body))))
}

// idOf returns the id in a token's text, false for what is no token.
func idOf(text string) (id string, ok bool) {
	if len(text) != tokenLength || !strings.HasPrefix(text, tokenPrefix) {
		return "", false
	}
	id = text[len(tokenPrefix):][:tokenID]
	body := text[:tokenLength-tokenCheck]
	if strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" || text[len(tokenPrefix)+tokenID] != '_' || crcOf(body) != text[len(body):] {
		return "", false
	}
	return id, true
}

// Pepper is the deployment's secret under which tokens are stored and cursors
// are sealed. It does not print.
type Pepper struct{ key [32]byte }

// Format prints nothing of it.
func (Pepper) Format(s fmt.State, _ rune) { fmt.Fprint(s, "<secret>") }

// MAC is what is stored of a token.
func (p *Pepper) MAC(text string) []byte { return p.sum("token", []byte(text)) }

// sum is HMAC-SHA-256; purpose keeps the uses apart.
func (p *Pepper) sum(purpose string, data []byte) []byte {
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte("weir " + purpose + " 1\x00"))
	m.Write(data)
	return m.Sum(nil)
}

// LoadOrCreatePepper reads the pepper in the file at path, or makes one there:
// 64 hex digits, readable by the owner alone. Losing it ends all tokens and
// cursors.
func LoadOrCreatePepper(path string) (*Pepper, error) {
	p, err := loadPepper(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createPepper(path); err != nil {
			return nil, fmt.Errorf("create pepper %s: %w", path, err)
		}
		p, err = loadPepper(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read pepper %s: %w", path, err)
	}
	return p, nil
}

func loadPepper(path string) (*Pepper, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := st.Mode().Perm(); !st.Mode().IsRegular() || runtime.GOOS != "windows" && m&0o077 != 0 {
		return nil, fmt.Errorf("mode %s lets others read it; run chmod 600 on it", st.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	p := &Pepper{}
	if err != nil || len(key) != len(p.key) {
		return nil, fmt.Errorf("want %d hex digits", 2*len(p.key))
	}
	copy(p.key[:], key)
	return p, nil
}

// createPepper makes the file whole or not at all; where another process was
// faster, that one's stays.
func createPepper(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".weir-pepper-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	var key [32]byte
	_, _ = rand.Read(key[:])
	_, err = fmt.Fprintf(f, "%x\n", key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// fit says why a token cannot be used now, "" when it can.
func (k *Token) fit(now time.Time) string {
	switch {
	case k.Revoked != 0:
		return "revoked"
	case k.Expires != 0 && pipeline.TimeOf(now) >= k.Expires:
		return "expired"
	}
	return ""
}
