package collector

import (
	"crypto/sha256"
	encoded "encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Tokens are the bearer tokens that senders may show, by their hashes: the
// tokens themselves are nowhere in weir. It does not change; any goroutine may
// use it.
type Tokens struct {
	names map[[sha256.Size]byte]string
}

// maxTokens bounds a file of tokens.
const maxTokens = 1024

// ReadTokens reads a file with one token a line: a name, a space and the
// SHA-256 of the token in hex. # begins a comment. A hash without salt is
// enough for tokens, which are long and random; passwords do not belong there.
func ReadTokens(path string) (*Tokens, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	t := &Tokens{names: map[[sha256.Size]byte]string{}}
	var errs []error
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		if i := strings.IndexByte(line, '#'); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var sum [sha256.Size]byte
		if len(words) != 2 || len(words[1]) != 2*len(sum) {
			errs = append(errs, fmt.Errorf("read tokens %s: line %d is not a name and the SHA-256 of a token in hex", path, number))
			continue
		}
		if _, err := encoded.Decode(sum[:], []byte(words[1])); err != nil {
			errs = append(errs, fmt.Errorf("read tokens %s: line %d: the hash is not hex", path, number))
			continue
		}
		if sum == sha256.Sum256(nil) {
			errs = append(errs, fmt.Errorf("read tokens %s: line %d is the hash of nothing", path, number))
			continue
		}
		t.names[sum] = words[0]
	}
	switch {
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	case len(t.names) == 0:
		return nil, fmt.Errorf("read tokens %s: there is none in it", path)
	case len(t.names) > maxTokens:
		return nil, fmt.Errorf("read tokens %s: there are more than %d", path, maxTokens)
	}
	return t, nil
}

// Name returns whose token it is. Looking up a hash tells an attacker nothing
// by its time: they cannot choose the hash.
func (t *Tokens) Name(token string) (name string, ok bool) {
	name, ok = t.names[sha256.Sum256([]byte(token))]
	return name, ok
}
