package collector

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"weir/pipeline"
)

// A sender that heard no answer does not know whether its lines are kept. With
//
//	Idempotency-Key: 0196fca2-7a31-7c10-9b11-5ae1f2c0d7a4
//
// it may send the same body again: what was kept is acknowledged as it was the
// first time, and not kept again. The receipt is stored in the commit of the
// lines, all of the body's at once, and is remembered for ReceiptsFor at least.

// ReceiptsFor is how long a key is remembered.
const ReceiptsFor = 15 * time.Minute

const maxKey = 255 // bytes of a key

// claim is a key that a sender uses at the moment.
type claim struct {
	key    [32]byte
	hash   hash.Hash // of the lines
	stored *pipeline.Receipt
	forget func() // ends it; once and no more
	owned  bool   // its end is the delivery's
}

// Write hashes lines on their way.
func (c *claim) Write(b []byte) (int, error) { return c.hash.Write(b) }

// claim takes the key of r, nil without one. Until it ends, others with the key
// have to come again.
func (p *Push) claim(r *http.Request, format string) (*claim, *refusal) {
	header := r.Header.Values("Idempotency-Key")
	if len(header) == 0 || p.cfg.Receipt == nil {
		return nil, nil
	}
	text := strings.Trim(header[0], `"`)
	if len(header) > 1 || text == "" || len(text) > maxKey {
		return nil, &refusal{status: http.StatusBadRequest, detail: fmt.Sprintf("Idempotency-Key: give one of at most %d bytes", maxKey)}
	}
	// Keys of one sender say nothing about those of another.
	sender := ""
	if p.cfg.Tokens != nil {
		if token, ok := bearer(r.Header.Get("Authorization")); ok {
			sender, _ = p.cfg.Tokens.Name(token)
		}
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		sender += "\x00" + r.TLS.PeerCertificates[0].Subject.String()
	}
	c := &claim{key: sha256.Sum256([]byte(sender + "\x00" + format + "\x00" + text)), hash: sha256.New()}
	p.mu.Lock()
	_, taken := p.claims[c.key]
	if !taken {
		p.claims[c.key] = struct{}{}
	}
	p.mu.Unlock()
	if taken {
		return nil, &refusal{status: http.StatusTooManyRequests, again: true, detail: "lines with this Idempotency-Key are on their way; come again to hear whether they were kept"}
	}
	c.forget = func() {
		p.mu.Lock()
		delete(p.claims, c.key)
		p.mu.Unlock()
	}
	var err error
	if c.stored, err = p.cfg.Receipt(r.Context(), c.key); err != nil {
		c.forget()
		return nil, &refusal{status: http.StatusServiceUnavailable, again: true, detail: "the store did not say whether this Idempotency-Key was used; nothing of this body was taken"}
	}
	return c, nil
}

// end ends a claim whose lines were not handed on.
func (c *claim) end() {
	if c != nil && !c.owned {
		c.forget()
	}
}

// receipt is what is stored with the lines: the answer, under the key. From now on
// the claim ends with their delivery.
func (c *claim) receipt(sum pushed) *pipeline.Receipt {
	if c == nil {
		return nil
	}
	c.owned = true
	return &pipeline.Receipt{Key: c.key, Lines: [32]byte(c.hash.Sum(nil)), Answer: sum.json(), Time: pipeline.TimeOf(time.Now())}
}

// replay answers for a body that was kept before, if it is the same.
func (p *Push) replay(w http.ResponseWriter, r *http.Request, c *claim, body io.Reader) {
	if _, err := io.Copy(c, body); err != nil {
		p.refuse(w, p.failed(r, err))
		return
	}
	if [32]byte(c.hash.Sum(nil)) != c.stored.Lines {
		p.refuse(w, &refusal{status: http.StatusUnprocessableEntity, detail: "this Idempotency-Key was used for other lines; nothing of this body was taken"})
		return
	}
	w.Header().Set("Idempotency-Replayed", "true")
	p.answer(w, http.StatusOK, "application/json", c.stored.Answer)
}

// json is the answer's body.
func (s pushed) json() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("BUG: answer is no JSON: " + err.Error())
	}
	return append(b, '\n')
}
