package console

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"weir/pipeline"
)

// CheckpointAction is the action of a signed checkpoint in the audit.
const CheckpointAction = "audit.checkpoint"

// AuditCheckpoint is a signature under the audit as far as it went: the hash of a
// row stands for all rows before it. It is the after of an entry, whose time is
// signed, too. What is signed is the text
//
//	weir audit checkpoint 1
//	THROUGH
//	HASH
//	TIME
//
// each line with its end, the time as the entry has it.
type AuditCheckpoint struct {
	Through   int64  `json:"through"`   // seq of the row
	Hash      string `json:"hash"`      // of the row, in hex
	Key       string `json:"key"`       // SHA-256 of the public key, in hex
	Signature string `json:"signature"` // Ed25519, in base64
}

func (c *AuditCheckpoint) text(at pipeline.Time) ([]byte, error) {
	stamp, err := at.MarshalText()
	return fmt.Appendf(nil, "weir audit checkpoint 1\n%d\n%s\n%s\n", c.Through, c.Hash, stamp), err
}

// AuditKey signs checkpoints; without its secret half it checks them alone. It
// does not print.
type AuditKey struct {
	public ed25519.PublicKey
	secret ed25519.PrivateKey // nil: the public half alone
}

// Format prints nothing of it.
func (*AuditKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, "<key>") }

// ID names the key: the SHA-256 of its public half, in hex.
func (k *AuditKey) ID() string {
	sum := sha256.Sum256(k.public)
	return hex.EncodeToString(sum[:])
}

// Checkpoint is the entry that signs the audit through a row and its hash.
func (k *AuditKey) Checkpoint(through int64, hash []byte, who AuditWho, at pipeline.Time) (AuditEntry, error) {
	if k.secret == nil {
		return AuditEntry{}, errors.New("sign the audit: the file holds the public key alone")
	}
	c := &AuditCheckpoint{Through: through, Hash: hex.EncodeToString(hash), Key: k.ID()}
	text, err := c.text(at)
	if err != nil {
		return AuditEntry{}, err
	}
	c.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(k.secret, text))
	return AuditEntry{
		Time: at, Action: CheckpointAction, Outcome: "success", Who: who, Where: AuditWhere{Interface: "service"},
		Target: &AuditTarget{Kind: "audit", IDs: []string{strconv.FormatInt(through, 10)}}, After: c,
	}, nil
}

// ReadCheckpoint returns the checkpoint in the text of an entry, and the entry's
// time; nil for an entry of another kind.
func ReadCheckpoint(entry []byte) (*AuditCheckpoint, pipeline.Time, error) {
	var e struct {
		Time   pipeline.Time    `json:"time"`
		Action string           `json:"action"`
		After  *AuditCheckpoint `json:"after"`
	}
	// Of other entries after is anything.
	var kind struct {
		Action string `json:"action"`
	}
	if err := json.Unmarshal(entry, &kind); err != nil {
		return nil, 0, fmt.Errorf("read an entry of the audit: %w", err)
	}
	if kind.Action != CheckpointAction {
		return nil, 0, nil
	}
	err := json.Unmarshal(entry, &e)
	if err == nil && e.After == nil {
		err = errors.New("it signs nothing")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read a checkpoint of the audit: %w", err)
	}
	return e.After, e.Time, nil
}

// Signed reports whether k signed c at that time.
func (k *AuditKey) Signed(c *AuditCheckpoint, at pipeline.Time) bool {
	text, err := c.text(at)
	signature, badly := base64.StdEncoding.DecodeString(c.Signature)
	return err == nil && badly == nil && c.Key == k.ID() && ed25519.Verify(k.public, text, signature)
}

// LoadAuditKey reads the key in the file at path: Ed25519 in PEM, PKCS #8 or the
// public half alone. The secret half must be readable by its owner alone.
func LoadAuditKey(path string) (*AuditKey, error) {
	k, err := loadAuditKey(path)
	if err != nil {
		return nil, fmt.Errorf("read the audit's key %s: %w", path, err)
	}
	return k, nil
}

func loadAuditKey(path string) (*AuditKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	const want = "want an Ed25519 key in PEM, as openssl genpkey -algorithm ed25519 makes"
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New(want)
	}
	if block.Type == "PUBLIC KEY" {
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		public, ok := key.(ed25519.PublicKey)
		if err != nil || !ok {
			return nil, errors.New(want)
		}
		return &AuditKey{public: public}, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	secret, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New(want)
	}
	if st, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return nil, errors.Join(err, errors.New("others can read it; run chmod 600 on it"))
	}
	return &AuditKey{public: secret.Public().(ed25519.PublicKey), secret: secret}, nil
}

// LoadOrCreateAuditKey is LoadAuditKey; where there is no file, it makes a key
// there.
func LoadOrCreateAuditKey(path string) (*AuditKey, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return LoadAuditKey(path)
	}
	if err := createAuditKey(path); err != nil {
		return nil, fmt.Errorf("create the audit's key %s: %w", path, err)
	}
	return LoadAuditKey(path)
}

// createAuditKey makes the file whole or not at all; another process's stays.
func createAuditKey(path string) error {
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".weir-audit-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
