package console

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// packFrom is the size from which packing is worth its headers.
const packFrom = 1 << 10

// writePacked sends a whole answer, packed as the caller accepts it: zstd or
// gzip, what it names first.
func (c *console) writePacked(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	coding := ""
	if len(body) >= packFrom {
		coding = codingOf(strings.Join(r.Header.Values("Accept-Encoding"), ","))
	}
	var packed []byte
	switch coding {
	case "zstd":
		e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			panic("BUG: zstd: " + err.Error())
		}
		packed = e.EncodeAll(body, nil)
		_ = e.Close()
	case "gzip":
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(body) // into memory
		_ = z.Close()
		packed = b.Bytes()
	}
	if packed != nil {
		w.Header().Set("Content-Encoding", coding)
		body = packed
	}
	write(w, http.StatusOK, kind, body)
}

// codingOf chooses of an Accept-Encoding; "" for none.
func codingOf(accept string) string {
	for entry := range strings.SplitSeq(accept, ",") {
		name, q, _ := strings.Cut(entry, ";")
		if q = strings.TrimSpace(q); q == "q=0" || strings.HasPrefix(q, "q=0.0") {
			continue
		}
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "zstd", "gzip":
			return name
		case "*":
			return "gzip"
		}
	}
	return ""
}
