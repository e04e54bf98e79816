package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// position is a place in a feed.
type position struct {
	seq int64 // everything through it was given
	// known is the highest seq that had been removed when the cursor was made: of
	// that the reader was told.
	known int64
}

// seals makes and opens cursors: a position of one feed and one filter, with a
// MAC, so that readers keep them and make none of their own. They outlive tokens
// and restarts; only the pepper ends them. The bytes:
//
//	version 1 | of feed and filter 4 | seq 8 | known 8 | MAC 16
//
// in base64url.
type seals struct{ key []byte }

const (
	cursorVersion = 1
	cursorBody    = 1 + 4 + 8 + 8
	cursorMAC     = 16
	cursorText    = (cursorBody + cursorMAC) * 8 / 6 // without padding, rounded below
)

var errCursor = errors.New("not a cursor of this feed and these parameters, or not of this weir; leave it out to begin anew")

// filterHash tells cursors of one feed and filter from others.
func filterHash(feed string, severities []string) [4]byte {
	list := slices.Sorted(slices.Values(severities))
	sum := sha256.Sum256([]byte(feed + "\x00" + strings.Join(list, ",")))
	return [4]byte(sum[:4])
}

func (s seals) mac(body []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write(body)
	return m.Sum(nil)[:cursorMAC]
}

func (s seals) seal(filter [4]byte, p position) string {
	b := append(make([]byte, 0, cursorBody+cursorMAC), cursorVersion)
	b = append(b, filter[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.seq))
	b = binary.BigEndian.AppendUint64(b, uint64(p.known))
	return base64.RawURLEncoding.EncodeToString(append(b, s.mac(b)...))
}

func (s seals) open(filter [4]byte, text string) (position, error) {
	if len(text) > cursorText+2 {
		return position{}, errCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != cursorBody+cursorMAC {
		return position{}, errCursor
	}
	body := b[:cursorBody]
	if !hmac.Equal(s.mac(body), b[cursorBody:]) || body[0] != cursorVersion || [4]byte(body[1:5]) != filter {
		return position{}, errCursor
	}
	return position{int64(binary.BigEndian.Uint64(body[5:])), int64(binary.BigEndian.Uint64(body[13:]))}, nil
}
