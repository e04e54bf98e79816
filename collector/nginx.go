package collector

import (
	"errors"
	"fmt"
	"strings"
)

// CompileNginx compiles an nginx log_format: its text alone, or as nginx.conf
// has it, with 'quoted' pieces, the name, escape= and the semicolon. Variables
// that weir has no use for are skipped. Errors name the column, counted from 1
// in the text that remains when the quotes of nginx.conf are gone.
func CompileNginx(logFormat string, opt ParseOptions) (Format, error) {
	l, err := compileNginx(logFormat)
	if err != nil {
		return Format{}, fmt.Errorf("compile nginx log_format %q: %w", clip(strings.TrimSpace(logFormat), 120), err)
	}
	return l.format("nginx", "nginx log_format", opt), nil
}

// maxFormat is the longest text of a log format.
const maxFormat = 16 << 10

func compileNginx(text string) (*layout, error) {
	if len(text) > maxFormat {
		return nil, fmt.Errorf("longer than %d bytes", maxFormat)
	}
	text, escape, err := unquoteNginx(text)
	if err != nil {
		return nil, err
	}
	b := &builder{}
	switch escape {
	case "", "default", "json":
	case "none":
		b.raw = true
	default:
		return nil, fmt.Errorf("escape=%s is not default, json or none", escape)
	}
	for i := 0; i < len(text); {
		if text[i] != '$' {
			b.literal(text[i])
			i++
			continue
		}
		column := i + 1
		name, n := nginxName(text[i:])
		if name == "" {
			b.errs = append(b.errs, fmt.Errorf("column %d: a $ with no variable's name behind it", column))
			i++
			continue
		}
		i += n
		if name == "is_args" && argsFollow(text[i:]) { // the '?' of the target that $uri$is_args$args is
			continue
		}
		b.value(nginxValue(name), "$"+name, column)
	}
	return b.finish()
}

func argsFollow(s string) bool {
	if !strings.HasPrefix(s, "$") {
		return false
	}
	name, _ := nginxName(s)
	return name == "args" || name == "query_string"
}

// nginxName reads $name or ${name} at the start of s.
func nginxName(s string) (name string, n int) {
	s = s[1:]
	braced := strings.HasPrefix(s, "{")
	if braced {
		s = s[1:]
	}
	for n < len(s) && (s[n]|0x20-'a' < 26 || s[n]-'0' < 10 || s[n] == '_') {
		n++
	}
	if name = s[:n]; !braced {
		return name, n + 1
	}
	if n == len(s) || s[n] != '}' {
		return "", 0
	}
	return name, n + 3
}

// unquoteNginx takes off what nginx.conf puts around a format.
func unquoteNginx(text string) (format, escape string, err error) {
	s := strings.TrimSpace(text)
	directive := false
	if rest, ok := strings.CutPrefix(s, "log_format"); ok && rest != "" && strings.ContainsRune(" \t\r\n", rune(rest[0])) {
		directive = true
		s = strings.TrimSpace(rest)
	}
	if n := strings.IndexAny(s, " \t\r\n"); n > 0 && !strings.ContainsAny(s[:n], "$'\"[{") {
		w, rest := s[:n], strings.TrimSpace(s[n:])
		if directive || strings.HasPrefix(rest, "'") || strings.HasPrefix(rest, "escape=") {
			if !strings.HasPrefix(w, "escape=") {
				s = rest
			}
		}
	}
	if rest, ok := strings.CutPrefix(s, "escape="); ok {
		n := strings.IndexAny(rest, " \t\r\n'\"$[{")
		if n < 0 {
			return "", "", errors.New("nothing follows escape=")
		}
		escape, s = rest[:n], strings.TrimSpace(rest[n:])
		directive = true
	}
	quoted := strings.HasPrefix(s, "'") || directive && strings.HasPrefix(s, `"`)
	if !quoted {
		if directive {
			s = strings.TrimSuffix(s, ";")
		}
		return s, escape, nil
	}
	var out strings.Builder
	for s != "" && s != ";" {
		q := s[0]
		if q != '\'' && q != '"' {
			return "", "", fmt.Errorf("%q stands where another quoted piece or the end belongs", clip(s, 20))
		}
		i := 1
		for ; i < len(s) && s[i] != q; i++ {
			if s[i] != '\\' || i+1 == len(s) {
				out.WriteByte(s[i])
				continue
			}
			i++
			switch s[i] {
			case 't':
				out.WriteByte('\t')
			case 'n':
				out.WriteByte('\n')
			case 'r':
				out.WriteByte('\r')
			case '"', '\'', '\\':
				out.WriteByte(s[i])
			default:
				out.WriteByte('\\')
				out.WriteByte(s[i])
			}
		}
		if i == len(s) {
			return "", "", fmt.Errorf("the piece %s is not closed by a %c", clip(s, 30), q)
		}
		s = strings.TrimSpace(s[i+1:])
	}
	return out.String(), escape, nil
}

// nginxValue is what a variable holds.
func nginxValue(name string) op {
	switch name {
	case "time_local":
		return op{slot: slotTime, kind: kindTime, stamp: stampCLF}
	case "time_iso8601":
		return op{slot: slotTime, kind: kindTime, stamp: stampISO}
	case "msec":
		return op{slot: slotTime, kind: kindTime, stamp: stampEpoch(6)}
	case "remote_addr":
		return op{slot: slotRemote, kind: kindToken}
	case "realip_remote_addr":
		return op{slot: slotPeer, kind: kindToken}
	case "proxy_protocol_addr":
		return op{slot: slotResolved, kind: kindToken}
	case "remote_user":
		return op{slot: slotUser}
	case "request":
		return op{slot: slotRequest}
	case "request_method":
		return op{slot: slotMethod, kind: kindToken}
	case "request_uri":
		return op{slot: slotTarget}
	case "uri", "document_uri":
		return op{slot: slotPath}
	case "args", "query_string":
		return op{slot: slotQuery}
	case "server_protocol":
		return op{slot: slotProtocol, kind: kindToken}
	case "host", "http_host":
		return op{slot: slotHost}
	case "server_name":
		return op{slot: slotServerName, kind: kindToken}
	case "status":
		return op{slot: slotStatus, kind: kindStatus}
	case "body_bytes_sent":
		return op{slot: slotBytes, kind: kindNumber}
	case "bytes_sent":
		return op{slot: slotBytesSent, kind: kindNumber}
	case "request_time":
		return op{slot: slotSeconds, kind: kindNumber}
	case "request_id":
		return op{slot: slotRequestID, kind: kindToken}
	case "request_length", "connection", "connection_requests", "connection_time", "pid", "remote_port", "server_port",
		"gzip_ratio", "realip_remote_port", "proxy_protocol_port":
		return op{kind: kindNumber}
	case "scheme", "pipe", "hostname", "server_addr", "nginx_version", "ssl_protocol", "ssl_cipher", "https":
		return op{kind: kindToken}
	case "jwt_claim_sub":
		return op{slot: slotSubject}
	case "jwt_payload":
		return op{slot: slotJWT}
	case "ssl_ja3", "ssl_ja3_hash", "http_ssl_ja3", "http_ssl_ja3_hash", "ja3":
		return op{slot: slotJA3}
	case "ssl_ja4", "http_ssl_ja4", "ja4":
		return op{slot: slotJA4}
	case "user", "api_key", "api_key_id", "session", "login_user":
		return op{slot: namedSlot(name)}
	case "sent_http_grpc_status", "upstream_trailer_grpc_status", "upstream_http_grpc_status", "sent_trailer_grpc_status":
		return op{slot: slotGRPC}
	case "sent_http_location", "upstream_http_location":
		return op{slot: slotLocation}
	case "request_body":
		return op{slot: slotBody}
	case "graphql_operation", "operation_name", "jsonrpc_method", "rpc_method":
		return op{slot: slotOperation}
	case "graphql_errors":
		return op{slot: slotAppErrors}
	case "error_code", "jsonrpc_error_code":
		return op{slot: slotAppError}
	case "arg_api_key", "arg_apikey", "arg_key":
		return op{slot: slotAPIKey}
	}
	if cookie, ok := strings.CutPrefix(name, "cookie_"); ok && isSessionCookie([]byte(cookie)) {
		return op{slot: slotSession}
	}
	if header, ok := strings.CutPrefix(name, "http_"); ok {
		return op{slot: headerSlot(strings.ReplaceAll(strings.ToLower(header), "_", "-"))}
	}
	for _, prefix := range [...]string{"sent_http_", "upstream_http_"} {
		if header, ok := strings.CutPrefix(name, prefix); ok {
			return op{slot: answerSlot(strings.ReplaceAll(header, "_", "-"))}
		}
	}
	if strings.HasPrefix(name, "upstream_") && !strings.HasPrefix(name, "upstream_cookie_") {
		return op{kind: kindList}
	}
	return op{}
}
