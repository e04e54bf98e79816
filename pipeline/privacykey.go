package pipeline

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// LoadOrCreatePrivacyKeys reads the master key in the file at path, or makes
// one there, readable by its owner alone. The file is one line of 64 hex
// digits. A file that group or others may read is refused. Two processes that
// start at once end up with the same key. Losing the file makes stored names
// unreadable and starts all identities anew.
func LoadOrCreatePrivacyKeys(path string) (*PrivacyKeys, error) {
	k, err := loadPrivacyKeys(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := createPrivacyKey(path); err != nil {
		return nil, fmt.Errorf("create privacy key %s: %w", path, err)
	}
	return loadPrivacyKeys(path)
}

// PublicKeys returns the keys of a fixed, well-known master. Their tokens join
// like any other and hide nothing: they serve where names are printed plainly.
func PublicKeys() (*PrivacyKeys, error) {
	k, err := newPrivacyKeys(make([]byte, masterBytes))
	if err != nil {
		return nil, err
	}
	k.public = true
	return k, nil
}

func loadPrivacyKeys(path string) (*PrivacyKeys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open privacy key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat privacy key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read privacy key %s: not a regular file", path)
	}
	if m := st.Mode().Perm(); runtime.GOOS != "windows" && m&0o077 != 0 {
		return nil, fmt.Errorf("read privacy key %s: mode %04o lets others read it; run chmod 600 on it", path, m)
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return nil, fmt.Errorf("read privacy key: %w", err)
	}
	// The decoder's error would quote the text: say only what is expected.
	master, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(master) != masterBytes {
		return nil, fmt.Errorf("read privacy key %s: want one line of %d hex digits (openssl rand -hex %d)", path, 2*masterBytes, masterBytes)
	}
	if [masterBytes]byte(master) == [masterBytes]byte{} {
		return nil, fmt.Errorf("read privacy key %s: the key is all zero, which hides nothing; replace it with the output of openssl rand -hex %d", path, masterBytes)
	}
	return newPrivacyKeys(master)
}

// createPrivacyKey writes a new key whole or not at all, and leaves a file
// alone that appeared meanwhile.
func createPrivacyKey(path string) error {
	var master [masterBytes]byte
	if _, err := rand.Read(master[:]); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".privacy-key-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(hex.EncodeToString(master[:]) + "\n")
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && runtime.GOOS != "windows" {
		return err
	}
	return nil
}
