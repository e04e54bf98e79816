package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// refusal is why a body was not taken, or may not have been; with status 0
// nobody waits for it.
type refusal struct {
	status int
	detail string
	again  bool // the same body may be sent again later
}

func comeAgain() *refusal {
	return &refusal{status: http.StatusTooManyRequests, again: true, detail: "weir has more lines than it can keep at this pace; nothing of this body was taken"}
}

// failed is the refusal of a body that err kept from being taken.
func (p *Push) failed(r *http.Request, err error) *refusal {
	var large *http.MaxBytesError
	var unknown *unknownLines
	switch {
	case errors.Is(err, errFull):
		return comeAgain()
	case errors.Is(err, errTooLarge) || errors.As(err, &large):
		return &refusal{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("a body may have %d bytes, as sent and unpacked; send fewer lines at a time", p.cfg.MaxBody)}
	case errors.Is(err, errCoding):
		return &refusal{status: http.StatusUnsupportedMediaType, detail: "Content-Encoding " + strconv.Quote(clip(coding(r), 40)) + " is not read; send " + encodings}
	case errors.As(err, &unknown):
		return &refusal{status: http.StatusUnprocessableEntity, detail: unknown.Error()}
	case r.Context().Err() != nil || errors.Is(err, context.Canceled):
		return &refusal{}
	}
	return &refusal{status: http.StatusBadRequest, detail: "the body cannot be read, and nothing of it was taken: " + err.Error()}
}

// refuse answers with a problem, as RFC 9457 has it.
func (p *Push) refuse(w http.ResponseWriter, no *refusal) {
	if no.status == 0 {
		hangUp()
	}
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(no.status), no.status, no.detail})
	if err != nil {
		panic("BUG: problem is no JSON: " + err.Error())
	}
	no.headers(w.Header())
	p.answer(w, no.status, "application/problem+json", append(body, '\n'))
}

// hangUp ends a request without an answer: one that was cut off looks to net/http like one
// that was dealt with, and a sender that is there all the same would be told 200.
func hangUp() { panic(http.ErrAbortHandler) }

func (no *refusal) headers(h http.Header) {
	if no.again {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if no.status == http.StatusUnsupportedMediaType {
		h.Set("Accept-Encoding", encodings)
	}
}

func (p *Push) answer(w http.ResponseWriter, status int, kind string, body []byte) {
	if p.cfg.Answered != nil {
		p.cfg.Answered(status)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
