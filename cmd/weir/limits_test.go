package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/console"
	"weir/detectors"
	"weir/pipeline"
)

// limitsService has a day of clients in its store: 1,100 at addresses of their own
// that ask /items up to 12 times a minute, one office of 300 that asks 200 times,
// 40 keys, and an attacker with an alert that asks 500 times. 10 in a thousand mistype a password.
func limitsService(t *testing.T) *service {
	t.Helper()
	s := consoleService(t)
	s.cfg.Console.Decisions = &console.DecisionsConfig{Enabled: true}
	var err error
	if s.never, err = pipeline.NewNeverBlock(s.cfg.Identity, nil, nil); err != nil {
		t.Fatal(err)
	}
	start := pipeline.TimeOf(time.Now().Add(-3 * time.Hour))
	var list []pipeline.Request
	add := func(at time.Duration, address, method, path, key string) {
		a, ok := pipeline.ParseAddress(address)
		if !ok {
			t.Fatal(address)
		}
		r := pipeline.Request{Time: start.Add(at), Effective: start.Add(at), Address: a, Kind: pipeline.PrincipalIP, Owner: a.Owner(), Method: method, Path: path, Status: 200, Bytes: 10}
		if key != "" {
			r.Kind, r.Key = pipeline.PrincipalKey, key
			r.Owner = pipeline.Principal{Kind: pipeline.PrincipalKey, Value: key}.Hash()
		}
		r.Seal()
		list = append(list, r)
	}
	for c := range 1100 {
		for i := range 1 + c%12 {
			add(time.Duration(c)*time.Second+time.Duration(i)*3*time.Second, fmt.Sprintf("198.18.%d.%d", c/250, 1+c%250), "GET", fmt.Sprint("/items/", (c*7+i)%400), "")
		}
		add(time.Duration(c)*time.Second, fmt.Sprintf("198.18.%d.%d", c/250, 1+c%250), "POST", "/login", "")
	}
	for i := range 200 {
		add(30*time.Minute+time.Duration(i)*200*time.Millisecond, "198.51.100.254", "GET", fmt.Sprint("/items/", i), "")
	}
	for i := range 500 {
		add(40*time.Minute+time.Duration(i)*100*time.Millisecond, "203.0.113.9", "GET", fmt.Sprint("/items/", i), "")
	}
	for c := range 40 {
		for i := range 5 {
			add(50*time.Minute+time.Duration(i)*time.Second, fmt.Sprint("192.0.2.", 1+c), "GET", fmt.Sprint("/items/", c+i), fmt.Sprint("k_", c))
		}
	}
	fitter := detectors.NewFitter()
	block := &pipeline.Block{Source: "x", SourceID: 1, Watermark: pipeline.NoTime}
	for i := range list {
		fitter.Add(&list[i])
		block.Requests = append(block.Requests, list[i])
		if len(block.Requests) == 4000 || i == len(list)-1 {
			block.Cause.To = block.Cause.From + int64(len(block.Requests))
			if _, _, err := s.db.AppendBlocks(t.Context(), []*pipeline.Block{block}); err != nil {
				t.Fatal(err)
			}
			block.Cause.From, block.Requests = block.Cause.To, block.Requests[:0]
		}
	}
	edition, err := fitter.Fit(0)
	if err == nil {
		err = s.publish(t.Context(), edition)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := consoleAlert("a", 1, "high")
	a.Principal.Value, a.Window.First, a.Window.Last = "203.0.113.9", start, start.Add(time.Hour)
	quiet := consoleAlert("b", 1, "info") // no reason to leave it out
	quiet.Principal.Value, quiet.Window = "198.51.100.254", a.Window
	putAlerts(t, s.db, a, quiet)
	if ok, err := s.readLimits(t.Context()); err != nil || !ok {
		t.Fatalf("%t %v", ok, err)
	}
	return s
}

// TestLimitsOfAStore: the limit is what 99.9 % of the clients stay under; who has
// an alert does not move it, and an office that nobody blames is told of.
func TestLimitsOfAStore(t *testing.T) {
	s := limitsService(t)
	f := func(by string, want ...console.EndpointLimit) {
		t.Helper()
		status, body := askConsole(t, s, "/api/v1/endpoints/limits?by="+by)
		var got struct {
			Requests int64
			Data     []console.EndpointLimit
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK || got.Requests < 9000 {
			t.Fatalf("%d %s: %v", status, body, err)
		}
		if fmt.Sprint(got.Data) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, want %+v", by, got.Data, want)
		}
	}
	f("address",
		console.EndpointLimit{Method: "GET", Template: "/items/{int}", PerMinute: 12, Clients: 1141, Touched: 1, Median: 6, Most: 200, Alerted: 1, AlertedTouched: 1},
		console.EndpointLimit{Method: "POST", Template: "/login", PerMinute: 10, Clients: 1100, Median: 1, Most: 1})
	f("key", console.EndpointLimit{Method: "GET", Template: "/items/{int}", PerMinute: 10, Clients: 40, Median: 5, Most: 5})
	s.never, s.cfg.Console.Decisions = nil, nil
	if status, _ := askConsole(t, s, "/api/v1/endpoints/limits"); status != http.StatusNotFound {
		t.Errorf("%d without decisions", status)
	}
}

// TestGatewaysHoldLimits: nginx and HAProxy load the files; a client that stays
// under its limit is let through however it bunches up, one that does not is
// refused, at that endpoint alone.
func TestGatewaysHoldLimits(t *testing.T) {
	s := limitsService(t)
	dir := t.TempDir()
	put := func(name, query string) string {
		t.Helper()
		status, body := askConsole(t, s, "/api/v1/endpoints/limits?"+query)
		if status != http.StatusOK || strings.Count(body, "\n") < 3 {
			t.Fatalf("%d %s", status, body)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := func(name string, limit int, config func(port int) string, args ...string) {
		t.Helper()
		program := gateway(name)
		if program == "" {
			t.Logf("no %s here: it is not tried", name)
			return
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		path := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(path, []byte(config(port)), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, append(args, path)...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		defer func() {
			_ = cmd.Process.Kill()
			<-ended
		}()
		where := fmt.Sprintf("http://127.0.0.1:%d", port)
		for end := time.Now().Add(patience); ; {
			conn, err := net.Dial("tcp", strings.TrimPrefix(where, "http://"))
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case err := <-ended:
				ended <- err
				t.Fatalf("%s: %v\n%s\n%s", name, err, out.String(), config(port))
			default:
			}
			if time.Now().After(end) {
				t.Fatalf("%s does not listen\n%s", name, out.String())
			}
		}
		ask := func(method, path string, n int) (refused int) {
			t.Helper()
			for range n {
				r, err := http.NewRequestWithContext(t.Context(), method, where+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatalf("%s: %v\n%s", name, err, out.String())
				}
				_ = resp.Body.Close()
				switch resp.StatusCode {
				case http.StatusTooManyRequests:
					refused++
				case http.StatusOK:
				default:
					t.Fatalf("%s: %s", name, resp.Status)
				}
			}
			return refused
		}
		if n := ask("GET", "/items/7", 12); n != 0 {
			t.Errorf("%s refuses %d of 12, the limit is 12 a minute", name, n)
		}
		if n := ask("GET", "/items/8", 60); n < 60-12-limit {
			t.Errorf("%s refuses %d of 60 more", name, n)
		}
		if n := ask("GET", "/elsewhere", 60); n != 0 {
			t.Errorf("%s refuses %d elsewhere", name, n)
		}
		if n := ask("GET", "/items/x", 60); n != 0 {
			t.Errorf("%s refuses %d of another endpoint", name, n)
		}
		if n := ask("POST", "/login", 10); n != 0 {
			t.Errorf("%s refuses %d logins", name, n)
		}
	}
	for _, by := range []string{"address", "key"} {
		include := put("nginx-"+by, "format=nginx&by="+by)
		config := func(port int) string {
			return fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr;\nevents {}\nhttp { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;\n"+
				"limit_req_status 429; error_page 405 =200 /empty; include %[2]s;\nserver { listen 127.0.0.1:%[3]d; location / { empty_gif; } } }\n", dir, include, port)
		}
		if by == "address" {
			f("nginx", 12+4, config, "-e", "stderr", "-p", dir, "-c")
			continue
		}
		if program := gateway("nginx"); program != "" {
			path := filepath.Join(dir, "key.conf")
			if err := os.WriteFile(path, []byte(config(1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if text, err := exec.CommandContext(t.Context(), program, "-t", "-e", "stderr", "-p", dir, "-c", path).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, text)
			}
		}
	}
	limits := put("limits.map", "format=haproxy")
	f("haproxy", 24, func(port int) string {
		text := readPage(t, "deploy/gateways/haproxy-limits.cfg")
		for old, new := range map[string]string{
			"map_reg(/etc/haproxy/weir-limits.map)": "map_reg(" + limits + ")",
			"    bind :80\n":                        fmt.Sprintf("    bind 127.0.0.1:%d\n", port),
			"    server app 127.0.0.1:8080\n":       "    http-request return status 200\n",
		} {
			if strings.Count(text, old) != 1 {
				t.Fatalf("the example has no %s", old)
			}
			text = strings.Replace(text, old, new, 1)
		}
		return "global\n maxconn 100\ndefaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n" + text
	}, "-f")
}
