// Package collector reads API traffic: sources bring bytes, a format turns each
// record into Fields. The formats are here, one file each:
//
//	combined.go   common, combined, vhost_combined: the stock nginx and Apache lines
//	nginx.go      any nginx log_format
//	apache.go     any Apache LogFormat
//	json.go       one JSON object a line
//	preset.go     the JSON logs of one program each, by the maps in presets/
//	haproxy.go    HAProxy's HTTP log, any log-format
//	envoy.go      Envoy and Istio, any format string
//	alb.go        Amazon load balancers
//	columns.go    logs with a header: IIS, CloudFront, Zeek
//	gateways.go   combined lines that say more: ingress-nginx, Traefik, API Gateway
//	modsecurity.go  ModSecurity's serial audit log
//	wrapped.go    lines inside what a container engine writes
//	auto.go       which of them an input is, or what to tell the user instead
//
// Log lines are written by attackers. A parser never panics, never allocates
// because of a line, and takes a line whose envelope is sound however odd the
// request inside it: odd requests are what detection looks for.
package collector

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// MaxLine is the longest line a parser looks at, in bytes; a longer one is
// RejectTooLong.
const MaxLine = 1 << 20

// Fields is one parsed line, raw: strings point into the line, and are valid
// until the line's memory is reused, or into memory that an append to Scratch
// made. Secrets are still in clear here: only the identity step sees them next,
// in the same goroutine.
//
// A value that the log calls absent ("-", "", null) is "". Escapes of the log
// (\xHH, \", \u00e9) are undone, except that control characters and bytes that
// are no UTF-8 stay written as \xhh in lower case, whoever wrote the log.
type Fields struct {
	Time    pipeline.Time
	HasTime bool // false: the format carries no time

	pipeline.Clear

	Method    string // "" when the request is no HTTP request
	Host      string // lower case, without port
	Path      string // without query; the whole request when it is no HTTP request
	Query     string // without '?'
	Protocol  string
	Agent     string
	Referer   string
	Status    uint16 // 0 unknown
	Bytes     int64  // of the response body where the format tells, else as sent; -1 unknown
	Duration  int64  // microseconds; -1 unknown
	JA3, JA4  string
	RequestID string
	application
	Blocked bool // stopped by a WAF or gateway, as the log tells

	Scratch []byte // reused by parsers for unescaped values
}

// reset empties f and keeps its scratch memory.
func (f *Fields) reset() {
	*f = Fields{Bytes: -1, Duration: -1, Scratch: f.Scratch[:0]}
}

// Parser fills f from one line, which has no line end. It resets f first. The
// error is one of the Reject constants, and f is then of no use. A Parser is for
// one goroutine; Format.New gives one to each. Parsers of formats with a Carry
// remember what earlier lines said about later ones.
type Parser interface {
	Parse(f *Fields, line []byte) error
}

// Format is a way to read lines.
type Format struct {
	Name     string
	Describe string // one sentence for people
	New      func() Parser

	// ClientPrefix returns the bytes of line that name the client, without a
	// full parse, or nil where that cannot be told cheaply. It is never nil
	// itself and may be called from any goroutine.
	ClientPrefix func(line []byte) []byte

	// Carry is nil for formats whose lines stand alone. Else it returns the
	// lines that a new parser must have read before it reads what follows data,
	// where before is what it must have read before data: a header that names
	// the columns, the beginning of a record. It may reuse before.
	Carry func(before, data []byte) []byte

	// Arrays says that a line may be a JSON array of objects, each a line of the
	// format.
	Arrays bool
}

// ParseOptions is what a user may say about a format.
type ParseOptions struct {
	// Location is for stamps without a zone; nil is UTC.
	Location *time.Location
	// Map names JSON members for weir's fields: weir field → path of the
	// member, dots between nested names. See CompileJSON for the fields.
	Map map[string]string
}

// Reject is why a line did not parse. The set is closed: it labels metrics.
type Reject string

// The reasons.
const (
	RejectEmpty    Reject = "empty"
	RejectTooLong  Reject = "too_long"
	RejectFormat   Reject = "format"   // the line is not laid out like this
	RejectTime     Reject = "time"     // laid out well, no time where one belongs
	RejectRequest  Reject = "request"  // an object that is no request
	RejectStatus   Reject = "status"   // laid out well, no status where one belongs
	RejectJSON     Reject = "json"     // not one JSON object
	RejectBinary   Reject = "binary"   // NUL bytes
	RejectEncoding Reject = "encoding" // UTF-16, or mostly bytes that are no text
)

// SkipLine is what Parse returns for a line that is no request and no fault: a
// header, a comment, a part of a record that ends further on, an event of
// another kind. It is not counted among the rejects.
const SkipLine Reject = "skip"

func (r Reject) Error() string { return string(r) }

// Formats lists the formats by name. nginx and apache read the layouts those
// servers ship; CompileNginx and CompileApache read any other.
func Formats() []Format { return formats(ParseOptions{}) }

func formats(opt ParseOptions) []Format {
	ps := presets()
	list := []Format{
		commonFormat(opt), combinedFormat(opt), vhostFormat(opt),
		stockFormat("nginx", "nginx, its stock layout; give --log-format for your own log_format", opt),
		stockFormat("apache", "Apache, its stock layout; give --log-format for your own LogFormat", opt),
		jsonFormat(nil, opt),
		ingressFormat(opt), haproxyFormat(opt),
		withJSON(envoyFormat("envoy", "Envoy, its access log in the default layout or as JSON", opt), ps, "envoy", opt),
		withJSON(envoyFormat("istio", "Istio, its access log in the default layout or as JSON", opt), ps, "envoy", opt),
		withJSON(traefikFormat(opt), ps, "traefik", opt),
		albFormat(opt), cloudFrontFormat(opt), iisFormat(opt),
		withJSON(apiGatewayFormat(opt), ps, "aws_apigateway", opt),
		withJSON(zeekColumnsFormat(opt), ps, "zeek", opt),
		withJSON(modSecurityFormat(opt), ps, "modsecurity", opt),
		dockerFormat(opt), criFormat(opt),
	}
	for _, p := range ps {
		f := p.format(opt)
		if !slices.ContainsFunc(list, func(other Format) bool { return other.Name == f.Name }) {
			list = append(list, f)
		}
	}
	return list
}

// Named returns the format called name, with opt applied.
func Named(name string, opt ParseOptions) (Format, error) {
	if name == "json" {
		return CompileJSON(opt)
	}
	for _, f := range formats(opt) {
		if f.Name == name {
			return f, nil
		}
	}
	if outer, inside, ok := strings.Cut(name, "+"); ok && (outer == "docker" || outer == "cri") {
		inner, err := Named(inside, opt)
		if err != nil {
			return Format{}, err
		}
		return nameWrapped(outer, inner, opt)
	}
	return Format{}, fmt.Errorf("find format %q: there is none of that name; there are auto, %s", clip(name, 40), formatNames(", "))
}

func formatNames(sep string) string {
	var names []string
	for _, f := range Formats() {
		names = append(names, f.Name)
	}
	return strings.Join(names, sep)
}

// CompileLogFormat compiles text by what it is written in: an nginx log_format
// has $variables, an Apache LogFormat %directives, an Envoy format %OPERATORS%,
// an HAProxy log-format %variables of its own.
func CompileLogFormat(text string, opt ParseOptions) (Format, error) {
	dollar, percent := strings.Count(text, "$"), strings.Count(text, "%")
	switch {
	case dollar == 0 && percent == 0:
		return Format{}, fmt.Errorf("read log format %q: it has neither nginx variables ($remote_addr) nor Apache directives (%%h); for a format by name use --format", clip(text, 80))
	case containsAny(text, "%START_TIME", "%REQ(", "%RESPONSE_CODE%", "%PROTOCOL%"):
		return CompileEnvoy(text, opt)
	case strings.HasPrefix(strings.TrimSpace(text), "log-format ") || containsAny(text, "%ci", "%[", "%{+", "%ST", "%HM", "%HU", "%HP", "%tsc"):
		return CompileHAProxy(text, opt)
	case percent > dollar:
		return CompileApache(text, opt)
	}
	return CompileNginx(text, opt)
}

func containsAny(s string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}
