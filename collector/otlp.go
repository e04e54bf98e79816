package collector

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// OTLP over HTTP, 1.x: POST /v1/traces and /v1/logs, protobuf or JSON, gzip or
// zstd. Requests are made of
//
//   - spans of kind server with HTTP attributes, by their old names or new ones;
//     others are counted and passed over,
//   - log records with HTTP attributes,
//   - log records whose body is a line of an access log, or an object: these are
//     read as pushed lines are.
//
// The answer names how many records are no request (partial_success). 429 and
// 503 carry Retry-After: exporters send the same again.

// otlpKinds are the two paths: what a record is called there.
const (
	otlpLogs   = "logs"
	otlpTraces = "traces"
)

func (p *Push) serveOTLP() {
	for _, kind := range [...]string{otlpLogs, otlpTraces} {
		p.mux.HandleFunc("POST /v1/"+kind, func(w http.ResponseWriter, r *http.Request) { p.ingestOTLP(w, r, kind) })
		p.mux.HandleFunc("/v1/"+kind, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "POST")
			p.refuse(w, &refusal{status: http.StatusMethodNotAllowed, detail: "OTLP is sent with POST"})
		})
	}
	p.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p.refuse(w, &refusal{status: http.StatusNotFound, detail: "OTLP/HTTP is taken at /v1/logs and /v1/traces; weir keeps no metrics"})
	})
}

func (p *Push) ingestOTLP(w http.ResponseWriter, r *http.Request, kind string) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	asJSON := media == "application/json"
	refuse := func(no *refusal) { p.refuseOTLP(w, asJSON, no) }
	if err != nil || !asJSON && media != "application/x-protobuf" {
		refuse(&refusal{status: http.StatusUnsupportedMediaType, detail: "send application/x-protobuf or application/json"})
		return
	}
	leave, no := p.enter(r)
	defer leave()
	if no != nil {
		refuse(no)
		return
	}
	chunks, sum, err := p.readOTLP(w, r, kind, asJSON)
	if err != nil {
		refuse(p.failed(r, err))
		return
	}
	leave()
	if no := p.kept(r, chunks, nil, pushed{}); no != nil {
		refuse(no)
		return
	}
	media, body := sum.answer(kind, asJSON)
	p.answer(w, http.StatusOK, media, body)
}

// otlpSum is what became of an export.
type otlpSum struct {
	rejected map[string]int64
	unknown  string // why bodies were not recognised
}

// readOTLP turns an export into chunks, whose memory is then counted.
func (p *Push) readOTLP(w http.ResponseWriter, r *http.Request, kind string, asJSON bool) (chunks []*chunk, sum otlpSum, err error) {
	src, done, err := p.bodies.unpack(p.capped(w, r), coding(r), p.cfg.MaxBody)
	defer func() { done() }()
	if err != nil {
		return nil, sum, err
	}
	body, held, err := p.whole(src)
	defer func() { p.unreserve(held) }()
	if err != nil {
		return nil, sum, err
	}
	lines := otlpLines{limit: int(2*p.cfg.MaxBody) + 1<<16}
	read := lines.readProto
	if asJSON {
		read = lines.readJSON
	}
	if err := read(body, kind); err != nil {
		return nil, sum, err
	}
	if p.cfg.Skipped != nil && lines.skipped > 0 {
		p.cfg.Skipped(lines.skipped)
	}
	more := int64(cap(lines.requests) + cap(lines.text))
	if !p.reserve(more, held) {
		return nil, sum, errFull
	}
	held += more
	return p.otlpChunks(&lines, held)
}

// otlpChunks reads the lines that an export was turned into; mine is what is
// counted for it.
func (p *Push) otlpChunks(lines *otlpLines, mine int64) (chunks []*chunk, sum otlpSum, err error) {
	known, err := p.cfg.Formats("otel")
	if err != nil {
		return nil, sum, err
	}
	chunks, first, err := p.read(bytes.NewReader(lines.requests), known, mine)
	if err != nil {
		return nil, sum, err
	}
	for _, c := range chunks {
		mine += c.reserved
	}
	more, second, err := p.read(bytes.NewReader(lines.text), p.cfg.Default, mine)
	if unknown, ok := errors.AsType[*unknownLines](err); ok {
		// Not the sender's fault, and no reason to refuse the others: they count
		// as what they are, no requests.
		sum.unknown = unknown.d.Problem + "; the source's format may say how they are laid out"
		more, second, err = p.read(bytes.NewReader(lines.text), known, mine)
	}
	if err != nil {
		p.drop(chunks)
		return nil, sum, err
	}
	sum.rejected = first.Rejected
	for reason, n := range second.Rejected {
		sum.rejected[reason] += n
	}
	return append(chunks, more...), sum, nil
}

// whole reads a body into memory that is counted as it grows.
func (p *Push) whole(src io.Reader) (body []byte, held int64, err error) {
	const first = 16 << 10
	for {
		if len(body) == cap(body) {
			size := max(first, 2*cap(body))
			if !p.reserve(int64(size), held) {
				return nil, held, errFull
			}
			grown := make([]byte, len(body), size)
			copy(grown, body)
			p.unreserve(int64(cap(body)))
			held += int64(size - cap(body))
			body = grown
		}
		n, err := src.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, held, nil
		}
		if err != nil {
			return nil, held, err
		}
	}
}

// answer is an ExportTraceServiceResponse or ExportLogsServiceResponse: they
// have the same numbers.
func (s *otlpSum) answer(kind string, asJSON bool) (media string, body []byte) {
	var n int64
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(s.rejected)) {
		n += s.rejected[reason]
		reasons = append(reasons, fmt.Sprintf("%s %d", reason, s.rejected[reason]))
	}
	text := ""
	if n > 0 {
		text = cmp.Or(s.unknown, "some are no request") + " (" + strings.Join(reasons, ", ") + ")"
	}
	if asJSON {
		if n == 0 {
			return "application/json", []byte("{}")
		}
		name := "rejectedLogRecords"
		if kind == otlpTraces {
			name = "rejectedSpans"
		}
		return "application/json", marshalOTLP(map[string]any{"partialSuccess": map[string]any{name: strconv.FormatInt(n, 10), "errorMessage": text}})
	}
	if n == 0 {
		return "application/x-protobuf", nil
	}
	partial := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(n))
	partial = protowire.AppendString(protowire.AppendTag(partial, 2, protowire.BytesType), text)
	return "application/x-protobuf", protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), partial)
}

// refuseOTLP answers with a google.rpc.Status, as OTLP has it.
func (p *Push) refuseOTLP(w http.ResponseWriter, asJSON bool, no *refusal) {
	if no.status == 0 {
		hangUp()
	}
	no.headers(w.Header())
	code := 3 // INVALID_ARGUMENT
	if no.again {
		code = 14 // UNAVAILABLE
	}
	if asJSON {
		p.answer(w, no.status, "application/json", marshalOTLP(map[string]any{"code": code, "message": no.detail}))
		return
	}
	body := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(code))
	body = protowire.AppendString(protowire.AppendTag(body, 2, protowire.BytesType), no.detail)
	p.answer(w, no.status, "application/x-protobuf", body)
}

func marshalOTLP(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: answer is no JSON: " + err.Error())
	}
	return body
}
