package pipeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// EditionSchema is the value of "schema" in an encoded edition.
const EditionSchema = "weir.edition/1"

// maxEdition bounds an encoded edition, in bytes.
const maxEdition = 64 << 20

// Edition is what detection has learned, numbered and hashed. An event at or
// past Effective is judged by it and by no later one. An Edition in force is
// never changed.
type Edition struct {
	Number    int64
	Effective Time          // NoTime: from the beginning
	Lateness  time.Duration // how far behind its tick an event may come and still be in order
	Templates *Templates    // nil is cold
	Detectors json.RawMessage
}

// editionContent is what the hash covers. Field order is the encoded order.
type editionContent struct {
	Schema    string          `json:"schema"`
	Number    int64           `json:"number"`
	Effective *Time           `json:"effective"`
	Lateness  string          `json:"lateness"`
	Templates []editionHost   `json:"templates"`
	Detectors json.RawMessage `json:"detectors"`
}

// editionFile is the encoded form.
type editionFile struct {
	Hash string `json:"hash"`
	editionContent
}

// editionHost lists one host's templates with the clients seen on each, those
// that were only read and those that were also written to.
type editionHost struct {
	Host  string           `json:"host"`
	Read  map[string]int64 `json:"read"`
	Write map[string]int64 `json:"write"`
}

// ShippedEdition is what weir starts from: number 0, nothing learned.
func ShippedEdition() *Edition {
	return &Edition{Effective: NoTime, Templates: ColdTemplates()}
}

func (e *Edition) content() (editionContent, error) {
	c := editionContent{
		Schema: EditionSchema, Number: e.Number, Lateness: e.Lateness.String(), Templates: []editionHost{}, Detectors: json.RawMessage("null"),
	}
	if e.Number < 0 || e.Lateness < 0 {
		return c, errors.New("number and lateness must not be negative")
	}
	if e.Effective != NoTime {
		if y := e.Effective.Std().Year(); y < 1 || y > 9999 {
			return c, fmt.Errorf("effective time is outside the years 1 to 9999: %d", e.Effective)
		}
		c.Effective = &e.Effective
	}
	if len(e.Detectors) > 0 {
		var b bytes.Buffer
		if err := json.Compact(&b, e.Detectors); err != nil {
			return c, fmt.Errorf("detectors: %w", err)
		}
		c.Detectors = b.Bytes()
	}
	if e.Templates != nil {
		for i := range e.Templates.hosts {
			h := &e.Templates.hosts[i]
			host := editionHost{h.name, map[string]int64{}, map[string]int64{}}
			for _, l := range h.lines {
				if l.write {
					host.Write[l.text] = l.clients
				} else {
					host.Read[l.text] = l.clients
				}
			}
			c.Templates = append(c.Templates, host)
		}
	}
	return c, nil
}

// hash is over the compact form.
func (c *editionContent) hash() (string, error) {
	b, err := marshalEdition(c, "")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func marshalEdition(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// Hash names the content: "sha256:" and 64 hexadecimal digits. Editions of the
// same content have the same hash on every machine. It is empty for an edition
// that cannot be encoded.
func (e *Edition) Hash() string {
	c, err := e.content()
	if err != nil {
		return ""
	}
	h, err := c.hash()
	if err != nil {
		return ""
	}
	return h
}

// Encode writes e as one JSON object that people can read, indented, with the
// hash of its content. Equal editions give equal bytes.
func (e *Edition) Encode() ([]byte, error) {
	c, err := e.content()
	if err != nil {
		return nil, fmt.Errorf("encode edition: %w", err)
	}
	f := editionFile{editionContent: c}
	if f.Hash, err = c.hash(); err != nil {
		return nil, fmt.Errorf("encode edition: %w", err)
	}
	b, err := marshalEdition(f, " ")
	if err != nil {
		return nil, fmt.Errorf("encode edition: %w", err)
	}
	if len(b) > maxEdition {
		return nil, fmt.Errorf("encode edition: %d bytes, more than %d", len(b), maxEdition)
	}
	return b, nil
}

// DecodeEdition reads what Encode writes and nothing else: unknown fields,
// templates that are not canonical and a hash that does not fit are errors.
// The edition keeps no reference to b.
func DecodeEdition(b []byte) (*Edition, error) {
	e, err := decodeEdition(b)
	if err != nil {
		return nil, fmt.Errorf("decode edition: %w", err)
	}
	return e, nil
}

func decodeEdition(b []byte) (*Edition, error) {
	if len(b) > maxEdition {
		return nil, fmt.Errorf("%d bytes, more than %d", len(b), maxEdition)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var f editionFile
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the object")
	}
	if f.Schema != EditionSchema {
		return nil, fmt.Errorf("schema is %.64q, want %q: written by another version of weir, or no edition", f.Schema, EditionSchema)
	}
	e := &Edition{Number: f.Number, Effective: NoTime}
	if f.Effective != nil {
		e.Effective = *f.Effective
	}
	var err error
	if e.Lateness, err = time.ParseDuration(f.Lateness); err != nil {
		return nil, fmt.Errorf("lateness: %w", err)
	}
	if e.Templates, err = decodeTemplates(f.Templates); err != nil {
		return nil, err
	}
	if len(f.Detectors) > 0 && string(f.Detectors) != "null" {
		var c bytes.Buffer
		if err := json.Compact(&c, f.Detectors); err != nil {
			return nil, fmt.Errorf("detectors: %w", err)
		}
		e.Detectors = c.Bytes()
	}
	c, err := e.content()
	if err != nil {
		return nil, err
	}
	want, err := c.hash()
	if err != nil {
		return nil, err
	}
	if f.Hash != want {
		return nil, fmt.Errorf("content does not have the hash it carries (%.80q, computed %s): the file was edited or damaged; let weir write it again", f.Hash, want)
	}
	return e, nil
}

func decodeTemplates(list []editionHost) (*Templates, error) {
	if len(list) > maxTemplateHosts+1 {
		return nil, fmt.Errorf("templates: %d hosts, more than %d", len(list), maxTemplateHosts+1)
	}
	hosts := make([]hostTemplates, 0, len(list))
	seen := make(map[string]bool)
	lines := 0
	for _, from := range list {
		if seen[from.Host] || len(from.Host) > maxHost || hasUpper(from.Host) {
			return nil, fmt.Errorf("templates: host %.64q is listed twice, too long or not in lower case", from.Host)
		}
		seen[from.Host] = true
		if n := len(from.Read) + len(from.Write); n == 0 || n > maxHostTemplates {
			return nil, fmt.Errorf("templates of host %.64q: %d of them, want 1 to %d", from.Host, n, maxHostTemplates)
		}
		h := hostTemplates{name: from.Host}
		for i, lines := range []map[string]int64{from.Read, from.Write} {
			for text, clients := range lines {
				if err := checkTemplate(text); err != nil {
					return nil, fmt.Errorf("templates of host %.64q: template %.128q: %w", from.Host, text, err)
				}
				if _, twice := from.Read[text]; clients < 0 || i == 1 && twice {
					return nil, fmt.Errorf("templates of host %.64q: template %.128q: listed twice or clients negative", from.Host, text)
				}
				h.lines = append(h.lines, templateLine{text: text, clients: clients, write: i == 1})
			}
		}
		lines += len(h.lines)
		hosts = append(hosts, h)
	}
	t := newTemplates(hosts)
	if t.Len() < lines {
		return nil, fmt.Errorf("templates: more than %d segments", maxTemplateNodes)
	}
	return t, nil
}

// checkTemplate accepts canonical templates only: another spelling would have
// another hash and match nothing.
func checkTemplate(text string) error {
	if len(text) > maxTemplateText || text == "" || text[0] != '/' {
		return fmt.Errorf("must begin with / and have at most %d bytes", maxTemplateText)
	}
	if text == "/" {
		return nil
	}
	words := strings.Split(text[1:], "/")
	if len(words) > maxDepth {
		return fmt.Errorf("more than %d segments", maxDepth)
	}
	var scratch [pathScratch]byte
	var p normalPath
	for i, word := range words {
		t, ext := parseSegment(word)
		if t != SlotNone {
			if again := string(appendSegment(nil, t, ext, "")); again != word {
				return fmt.Errorf("segment %.64q is no slot", word)
			}
			continue
		}
		p.text = p.read("/"+word, &scratch)
		if p.text != "/"+word || p.n != 1 || p.garbage {
			return fmt.Errorf("segment %.64q is not in canonical form", word)
		}
		if t, _, _ := slotOf(word, i == len(words)-1); t != SlotNone {
			return fmt.Errorf("segment %.64q is a value, its slot is %s", word, t)
		}
	}
	return nil
}

// ReadEdition reads the edition in a file.
func ReadEdition(path string) (*Edition, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read edition: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxEdition+1))
	if err != nil {
		return nil, fmt.Errorf("read edition: %w", err)
	}
	e, err := DecodeEdition(b)
	if err != nil {
		return nil, fmt.Errorf("read edition %s: %w", path, err)
	}
	return e, nil
}

// WriteEdition writes e to a file, readable by all. Readers see the old file or
// the new one, never a part.
func WriteEdition(path string, e *Edition) error {
	b, err := e.Encode()
	if err != nil {
		return err
	}
	if err := replaceFile(path, b); err != nil {
		return fmt.Errorf("write edition: %w", err)
	}
	return nil
}

func replaceFile(path string, b []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
