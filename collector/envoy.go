package collector

import (
	"errors"
	"fmt"
	"strings"
)

// Envoy's default line, and that of Istio, which has more in it:
//
//	[2022-07-20T09:52:24.955Z] "GET /a HTTP/1.1" 200 - 0 178 2 1 "192.0.2.1" "curl/7.79.1" "785918d6" "details:9080" "10.68.2.10:9080"
//	[...] "GET /a HTTP/1.1" 200 - via_upstream - "-" 0 178 2 1 "192.0.2.1" "curl/7.79.1" "785918d6" "details:9080" "10.68.2.10:9080" inbound|9080|| 127.0.0.6:47889 10.68.2.10:9080 10.68.1.7:39696 outbound_.9080_._.details default
//
// Envoy escapes nothing: a quote in an agent can only be told from the one that
// closes it by what follows. The stock line has no peer; the last address of
// X-Forwarded-For, which Envoy added, stands for it.

const (
	envoyDefault = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ` +
		`%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
		`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"`
	istioDefault = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ` +
		`%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ` +
		`%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
		`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% ` +
		`%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%`
)

// envoyFormat reads both; name is the one that the user knows it by.
func envoyFormat(name, describe string, opt ParseOptions) Format {
	var ls []*layout
	for _, text := range [...]string{istioDefault, envoyDefault} {
		l, err := compileEnvoy(text)
		if err != nil {
			panic(err) // a test compiles them
		}
		ls = append(ls, l)
	}
	f := layoutsFormat(name, describe, ls, opt)
	istio, plain := ls[0], ls[1]
	f.ClientPrefix = func(line []byte) []byte {
		if c := istio.clientPrefix(line); len(c) > 0 {
			return c
		}
		return plain.clientPrefix(line)
	}
	return f
}

// CompileEnvoy compiles an Envoy access log format string. Operators that weir
// has no use for are skipped. Errors name the column.
func CompileEnvoy(logFormat string, opt ParseOptions) (Format, error) {
	l, err := compileEnvoy(logFormat)
	if err != nil {
		return Format{}, fmt.Errorf("compile Envoy log format %q: %w", clip(strings.TrimSpace(logFormat), 120), err)
	}
	return l.format("envoy", "Envoy access log format", opt), nil
}

func compileEnvoy(text string) (*layout, error) {
	if len(text) > maxFormat {
		return nil, fmt.Errorf("longer than %d bytes", maxFormat)
	}
	text = strings.TrimSuffix(strings.TrimRight(strings.TrimSpace(text), "\r\n"), `\n`)
	b := &builder{}
	b.raw = true
	for i := 0; i < len(text); {
		if text[i] != '%' {
			b.literal(text[i])
			i++
			continue
		}
		if strings.HasPrefix(text[i:], "%%") {
			b.literal('%')
			i += 2
			continue
		}
		name, arg, n := envoyOperator(text[i:])
		if n == 0 {
			return nil, errors.Join(append(b.errs, fmt.Errorf("column %d: the %% is not closed", i+1))...)
		}
		o, err := envoyValue(name, arg)
		if err != nil {
			b.errs = append(b.errs, fmt.Errorf("column %d: %w", i+1, err))
		} else {
			b.value(o, text[i:i+n], i+1)
		}
		i += n
	}
	return b.finish()
}

// envoyOperator reads %NAME%, %NAME(ARG)% or %NAME(ARG):LENGTH% at the start of
// s.
func envoyOperator(s string) (name, arg string, n int) {
	for n = 1; n < len(s) && (s[n]|0x20-'a' < 26 || s[n] == '_' || s[n]-'0' < 10); n++ {
	}
	name = s[1:n]
	if n < len(s) && s[n] == '(' {
		end := strings.Index(s[n:], ")%")
		if short := strings.Index(s[n:], "):"); short >= 0 && (end < 0 || short < end) {
			end = short
		}
		if end < 0 {
			return "", "", 0
		}
		arg = s[n+1 : n+end]
		n += end + 1
	}
	if n < len(s) && s[n] == ':' {
		for n++; n < len(s) && s[n]-'0' < 10; n++ {
		}
	}
	if name == "" || n >= len(s) || s[n] != '%' {
		return "", "", 0
	}
	return name, arg, n + 1
}

// envoyValue is what an operator writes.
func envoyValue(name, arg string) (op, error) {
	switch name {
	case "START_TIME":
		return envoyTime(arg)
	case "REQ":
		return envoyRequestHeader(arg), nil
	case "PROTOCOL":
		return op{slot: slotProtocol, kind: kindToken}, nil
	case "RESPONSE_CODE":
		return op{slot: slotStatus, kind: kindNumber}, nil // 0 without an answer
	case "BYTES_SENT":
		return op{slot: slotBytes, kind: kindNumber}, nil
	case "DURATION":
		return op{slot: slotMillis, kind: kindNumber}, nil
	case "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":
		return op{slot: slotRemote, kind: kindToken}, nil
	case "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT":
		return op{slot: slotPeer, kind: kindToken}, nil
	case "REQUESTED_SERVER_NAME":
		return op{kind: kindToken}, nil // of the mesh, not of the client
	case "RESPONSE_FLAGS":
		return op{slot: slotEnvoyFlags, kind: kindToken}, nil
	case "GRPC_STATUS", "GRPC_STATUS_NUMBER":
		return op{slot: slotGRPC, kind: kindToken}, nil
	case "TRAILER":
		if strings.EqualFold(arg, "grpc-status") {
			return op{slot: slotGRPC}, nil
		}
		return op{}, nil
	case "RESP":
		return op{slot: answerSlot(strings.ToLower(arg))}, nil
	case "TLS_JA3_FINGERPRINT":
		return op{slot: slotJA3, kind: kindToken}, nil
	case "TLS_JA4_FINGERPRINT":
		return op{slot: slotJA4, kind: kindToken}, nil
	case "STREAM_ID":
		return op{kind: kindToken}, nil
	case "DYNAMIC_METADATA":
		if strings.HasSuffix(arg, ":sub") {
			return op{slot: slotSubject}, nil
		}
		return op{}, nil
	case "BYTES_RECEIVED", "REQUEST_DURATION", "RESPONSE_DURATION", "RESPONSE_TX_DURATION":
		return op{kind: kindNumber}, nil
	case "RESPONSE_FLAGS_LONG", "UPSTREAM_CLUSTER", "UPSTREAM_HOST", "UPSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS", "ROUTE_NAME":
		return op{kind: kindToken}, nil
	}
	return op{}, nil
}

func envoyRequestHeader(arg string) op {
	best := op{}
	for name := range strings.SplitSeq(strings.ToLower(arg), "?") {
		var o op
		switch name {
		case ":method":
			o = op{slot: slotMethod, kind: kindToken}
		case ":path", "x-envoy-original-path":
			o = op{slot: slotTarget}
		case ":authority":
			o = op{slot: slotHost}
		default:
			o = op{slot: headerSlot(name)}
		}
		if o.slot != slotNone {
			best = o
			break
		}
	}
	return best
}

func envoyTime(format string) (op, error) {
	o := op{slot: slotTime, kind: kindTime}
	switch format {
	case "":
		o.stamp = stampISO
		return o, nil
	case "%s":
		o.stamp = stampSeconds
		return o, nil
	case "%s.%3f", "%s.%6f", "%s.%9f", "%s.%f":
		o.stamp = stampEpoch(6)
		return o, nil
	}
	// What ISO 8601 writes, with a fraction of any length, however it is spelt.
	plain := strings.NewReplacer("%FT", "%Y-%m-%dT", "%T", "%H:%M:%S", "%3f", "", "%6f", "", "%9f", "", "%f", "", "%E3S", "%S", "%E6S", "%S").Replace(format)
	if strings.HasPrefix(plain, "%Y-%m-%dT%H:%M:%S") || strings.HasPrefix(plain, "%Y/%m/%dT%H:%M:%S") {
		o.stamp = stampISO
		return o, nil
	}
	var err error
	o.stamp, err = compileStrftime(format)
	return o, err
}

// envoyBlocked tells by the response flags whether Envoy's rate limit stopped
// the request. Authorization that failed (UAEX) may be a login of the
// application's and is none of its doing.
func envoyBlocked(flags []byte) bool {
	for len(flags) > 0 {
		flag := flags
		if i := strings.IndexByte(str(flags), ','); i >= 0 {
			flag, flags = flags[:i], flags[i+1:]
		} else {
			flags = nil
		}
		if string(flag) == "RL" {
			return true
		}
	}
	return false
}
