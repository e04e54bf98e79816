package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// size is what a way's log says of an answer's size.
type size int

const (
	sizeBody  size = iota // the body, decoded
	sizeWire              // the body as framed
	sizeTotal             // with the header
)

// way is how a server's log reaches weir, and what is in it.
type way struct {
	name   string
	source string // a source of weir.yaml, without its dash
	size   size
	// What the log holds besides the request line, the status, the size, the
	// time and the address.
	agent, host, user, forwarded, session, key, told bool
	syslog                                           bool                // datagrams
	text                                             func(string) string // what the server makes of a header's text; nil nothing
	golden                                           string
}

// front is a server to send to, and the ways its log takes.
type front struct {
	server, address string
	ways            []*way
	start           func(ctx context.Context, r *rig) error
}

// rig is what servers are started with.
type rig struct {
	dir     string
	docs    string // docs/logs.md
	origin  string // address of the application
	running []*exec.Cmd
	ports   map[string]string
}

// port gives a free port of loopback, the same one for the same name.
func (r *rig) port(name string) string {
	if p := r.ports[name]; p != "" {
		return p
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	_, p, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	r.ports[name] = p
	return p
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) (string, error) {
	p := r.path(name)
	return p, os.WriteFile(p, []byte(text), 0o644)
}

// launch starts a program in the foreground; its output goes to name.out, or to
// stdout where that is a file.
func (r *rig) launch(ctx context.Context, name string, stdout *os.File, command ...string) error {
	out, err := os.Create(r.path(name + ".out"))
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdout, c.Stderr = out, out
	if stdout != nil {
		c.Stdout = stdout
	}
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 5 * time.Second
	if err := c.Start(); err != nil {
		return err
	}
	r.running = append(r.running, c)
	return nil
}

// stop ends the programs that were started.
func (r *rig) stop() {
	for _, c := range r.running {
		_ = c.Process.Signal(os.Interrupt)
	}
	for _, c := range r.running {
		t := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		t.Stop()
	}
}

// answers waits until something listens at address.
func answers(ctx context.Context, address string) error {
	for range 100 {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("nothing listens at %s", address)
}

// installed finds a program, also where only root's PATH has it.
func installed(name string) string {
	for _, p := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	return ""
}

// snippet is the first fenced block in the language of a section of the docs.
func snippet(docs, language string) (string, error) {
	_, rest, ok := strings.Cut(docs, "\n```"+language+"\n")
	if !ok {
		return "", fmt.Errorf("docs: there is no block of %s", language)
	}
	text, _, ok := strings.Cut(rest, "\n```")
	if !ok {
		return "", errors.New("docs: a block is not closed")
	}
	return text, nil
}

func udp(r *rig, name string) string {
	return "syslog: {listen: \"udp://127.0.0.1:" + r.port(name) + "\"}"
}

func tcp(r *rig, name string) string {
	return "syslog: {listen: \"tcp://127.0.0.1:" + r.port(name) + "\"}"
}
func file(path string) string { return fmt.Sprintf("file: %q", path) }

func withFormat(source, format string) string {
	return source + "\n    log_format: '" + strings.ReplaceAll(format, "'", "''") + "'"
}

func stock(name, source string) *way {
	return &way{name: name, source: source, agent: true, user: true}
}

func documented(name, source string) *way {
	return &way{name: name, source: source, agent: true, host: true, user: true, forwarded: true, session: true, key: true, told: true}
}

func nginx(r *rig) (*front, error) {
	docs, err := snippet(r.docs, "nginx")
	if err != nil {
		return nil, err
	}
	log := r.path("nginx-docs.log")
	docs = strings.ReplaceAll(docs, "/var/log/nginx/weir.log", log)
	combined := r.path("nginx-combined.log")
	address := "127.0.0.1:" + r.port("nginx")
	conf := fmt.Sprintf(`worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.error;
daemon off;
master_process on;
events { worker_connections 512; }
http {
  client_body_temp_path %[1]s/nginx-body; proxy_temp_path %[1]s/nginx-proxy;
  fastcgi_temp_path %[1]s/nginx-f; uwsgi_temp_path %[1]s/nginx-u; scgi_temp_path %[1]s/nginx-s;
  large_client_header_buffers 4 32k;
%[2]s
  access_log %[3]s combined;
  access_log syslog:server=127.0.0.1:%[4]s,tag=nginx combined;
  access_log syslog:server=127.0.0.1:%[5]s,nohostname weir;
  server {
    listen %[6]s;
    location / { proxy_pass http://%[7]s; proxy_http_version 1.1; proxy_buffering on; }
  }
}
`, r.dir, docs, combined, r.port("nginx-udp"), r.port("nginx-docs-udp"), address, r.origin)
	f := &front{server: "nginx", address: address, ways: []*way{
		stock("file, combined", file(combined)),
		{name: "syslog UDP, combined", source: udp(r, "nginx-udp"), agent: true, user: true, syslog: true},
		documented("file, as documented", file(log)),
		documented("syslog UDP, as documented", udp(r, "nginx-docs-udp")),
	}}
	f.ways[2].golden = "nginx.log"
	f.ways[3].syslog = true
	f.ways[2].text, f.ways[3].text = rawBytes, rawBytes
	for _, w := range f.ways {
		w.size = sizeWire
	}
	if program := installed("rsyslogd"); program != "" {
		f.ways = append(f.ways, &way{name: "rsyslog imfile → TCP, octet-counted", source: tcp(r, "rsyslog"), agent: true, user: true, size: sizeWire})
	}
	f.start = func(ctx context.Context, r *rig) error {
		path, err := r.write("nginx.conf", conf)
		if err != nil {
			return err
		}
		if program := installed("rsyslogd"); program != "" {
			if err := rsyslog(ctx, r, program, combined); err != nil {
				return err
			}
		}
		return r.launch(ctx, "nginx", nil, installed("nginx"), "-c", path)
	}
	return f, nil
}

// rsyslog follows a file and sends its lines on.
func rsyslog(ctx context.Context, r *rig, program, log string) error {
	if err := os.MkdirAll(r.path("rsyslog"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		return err
	}
	path, err := r.write("rsyslog.conf", fmt.Sprintf(`global(workDirectory="%[1]s/rsyslog" maxMessageSize="64k")
module(load="imfile")
input(type="imfile" File="%[2]s" Tag="nginx:")
*.* action(type="omfwd" target="127.0.0.1" port="%[3]s" protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format" action.resumeRetryCount="-1" queue.type="LinkedList")
`, r.dir, log, r.port("rsyslog")))
	if err != nil {
		return err
	}
	return r.launch(ctx, "rsyslog", nil, program, "-n", "-f", path, "-i", r.path("rsyslog.pid"))
}

func haproxy(r *rig, asDocumented bool) (*front, error) {
	name, format, ws := "haproxy", "option httplog", []*way{
		{name: "stdout into a file, httplog"}, {name: "syslog UDP, httplog"}, {name: "syslog TCP, octet-counted, httplog"},
	}
	if asDocumented {
		name = "haproxy-docs"
		docs, err := snippet(r.docs, "haproxy")
		if err != nil {
			return nil, err
		}
		format = docs
		ws = []*way{documented("stdout into a file, as documented", ""), documented("syslog UDP, as documented", "")}
	}
	log, address := r.path(name+".log"), "127.0.0.1:"+r.port(name)
	conf := fmt.Sprintf(`global
    maxconn 1000
    tune.bufsize 32768
    tune.http.logurilen 16384
ring tcp
    format rfc5424
    maxlen 16384
    size 8388608
    timeout connect 5s
    timeout server 10s
    server weir 127.0.0.1:%[1]s log-proto octet-count
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option http-keep-alive
frontend %[2]s
    bind %[3]s
    option accept-invalid-http-request
    log stdout len 16384 format raw local0
    log 127.0.0.1:%[4]s len 16384 local0
    log ring@tcp len 16384 local0
%[5]s
    default_backend app
backend app
    server app %[6]s
`, r.port(name+"-tcp"), "front", address, r.port(name+"-udp"), format, r.origin)
	for i, source := range []string{file(log), udp(r, name+"-udp"), tcp(r, name+"-tcp")} {
		if i < len(ws) {
			ws[i].source, ws[i].size, ws[i].syslog = source, sizeTotal, i == 1
		}
	}
	if asDocumented {
		ws[0].golden = "haproxy.log"
		ws[0].text, ws[1].text = dropped, dropped
	}
	return &front{server: name, address: address, ways: ws, start: func(ctx context.Context, r *rig) error {
		path, err := r.write(name+".cfg", conf)
		if err != nil {
			return err
		}
		out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		return r.launch(ctx, name, out, installed("haproxy"), "-db", "-f", path)
	}}, nil
}

// lineWith is the first line of text that holds word.
func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func apache(r *rig) (*front, error) {
	docs, err := snippet(r.docs, "apache")
	if err != nil {
		return nil, err
	}
	log, combined, address := r.path("apache-docs.log"), r.path("apache-combined.log"), "127.0.0.1:"+r.port("apache")
	docs = strings.ReplaceAll(docs, "/var/log/apache2/weir.log", log)
	var modules strings.Builder
	for m := range strings.FieldsSeq("mpm_event auth_basic authn_core authn_file authz_core authz_user proxy proxy_http headers setenvif unique_id") {
		if _, err := os.Stat("/usr/lib/apache2/modules/mod_" + m + ".so"); err == nil {
			modules.WriteString("LoadModule " + m + "_module /usr/lib/apache2/modules/mod_" + m + ".so\n")
		}
	}
	passwords := r.path("htpasswd")
	conf := fmt.Sprintf(`ServerRoot %[1]s
ServerName localhost
PidFile %[1]s/apache.pid
ErrorLog %[1]s/apache.error
%[2]s
Listen %[3]s
LimitRequestLine 16000
AllowEncodedSlashes NoDecode
KeepAlive On
MaxKeepAliveRequests 0
HttpProtocolOptions Unsafe
LogFormat "%%h %%l %%u %%t \"%%r\" %%>s %%b \"%%{Referer}i\" \"%%{User-Agent}i\"" combined
CustomLog %[4]s combined
CustomLog "|/usr/bin/logger -n 127.0.0.1 -P %[5]s -d -t apache --size 32KiB" combined
%[6]s
<Location "/auth">
  AuthType Basic
  AuthName x
  AuthBasicProvider file
  AuthUserFile %[7]s
  Require valid-user
</Location>
ProxyPass / http://%[8]s/ nocanon
`, r.dir, modules.String(), address, combined, r.port("apache-udp"), docs, passwords, r.origin)
	f := &front{server: "apache", address: address, ways: []*way{
		stock("file, combined", file(combined)),
		{name: "|logger, syslog UDP, combined", source: udp(r, "apache-udp"), agent: true, user: true, syslog: true},
		documented("file, as documented", withFormat(file(log), lineWith(docs, "LogFormat "))),
	}}
	f.ways[2].golden = "apache.log"
	f.start = func(ctx context.Context, r *rig) error {
		if installed("htpasswd") == "" {
			return errors.New("htpasswd is not installed")
		}
		for i, u := range users() {
			flags := "-bB"
			if i == 0 {
				flags = "-cbB"
			}
			if out, err := exec.CommandContext(ctx, "htpasswd", flags, "-C", "4", passwords, u, password).CombinedOutput(); err != nil {
				return fmt.Errorf("htpasswd: %w: %s", err, out)
			}
		}
		path, err := r.write("apache.conf", conf)
		if err != nil {
			return err
		}
		return r.launch(ctx, "apache", nil, installed("apache2"), "-f", path, "-DFOREGROUND")
	}
	return f, nil
}

func caddy(r *rig) (*front, error) {
	docs, err := snippet(r.docs, "caddy")
	if err != nil {
		return nil, err
	}
	log := r.path("caddy-docs.log")
	docs = strings.ReplaceAll(docs, "/var/log/caddy/weir.log", log)
	address := "127.0.0.1:" + r.port("caddy")
	f := &front{server: "caddy", address: address, ways: []*way{
		documented("file, as documented", file(log)),
	}}
	f.ways[0].golden, f.ways[0].text = "caddy.log", replaced
	f.start = func(ctx context.Context, r *rig) error {
		var accounts strings.Builder
		for _, u := range users() {
			out, err := exec.CommandContext(ctx, "htpasswd", "-nbB", "-C", "4", u, password).Output()
			if err != nil {
				return fmt.Errorf("htpasswd: %w", err)
			}
			_, hash, _ := bytes.Cut(bytes.TrimSpace(out), []byte(":"))
			fmt.Fprintf(&accounts, "      %q %s\n", u, hash)
		}
		path, err := r.write("Caddyfile", fmt.Sprintf(`{
  admin off
  auto_https off
  servers {
    log_credentials
  }
}
http://:%[1]s {
  bind 127.0.0.1
%[2]s
  basicauth /auth/* {
%[3]s  }
  reverse_proxy %[4]s
}
`, r.port("caddy"), docs, accounts.String(), r.origin))
		if err != nil {
			return err
		}
		return r.launch(ctx, "caddy", nil, installed("caddy"), "run", "--config", path, "--adapter", "caddyfile")
	}
	return f, nil
}
