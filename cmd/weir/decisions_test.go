package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/console"
	"weir/pipeline"
	"weir/storage"
)

// sharedLog is an hour of an API that ends now: shoppers, an attacker on an
// address of its own, and the same attack from where others would be hit. Its
// lines have an X-Forwarded-For at the end.
func sharedLog(now time.Time) string {
	type line struct {
		at                                   time.Time
		peer, method, path, agent, forwarded string
		status                               int
	}
	var lines []line
	start := now.Add(-time.Hour)
	agent := func(i int) string {
		return fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/%d.0.%d.0 Safari/537.36", 90+i%40, i)
	}
	// Some 1,500 people, each alone at an address, one mistyping now and then.
	for i := range 1500 {
		at := start.Add(time.Duration(i) * 2300 * time.Millisecond)
		peer := fmt.Sprintf("198.18.%d.%d", i/250, 1+i%250)
		status := 302
		if i%9 == 0 {
			status = 401
		}
		lines = append(lines, line{at, peer, "POST", "/login", agent(i), "-", status})
		for n := range 3 {
			lines = append(lines, line{at.Add(time.Duration(n+1) * time.Second), peer, "GET", fmt.Sprint("/products/", (i+n)%90), agent(i), "-", 200})
		}
	}
	// 500 people behind one address, and what comes through a CDN and a proxy.
	for i := range 500 {
		at := start.Add(time.Duration(i) * 7 * time.Second)
		for _, where := range [][2]string{{natAddress, "-"}, {"104.16.3.4", "-"}, {"10.0.0.1", fmt.Sprintf("198.51.100.%d", 1+i%250)}} {
			status := 302
			if i%9 == 0 {
				status = 401
			}
			lines = append(lines, line{at, where[0], "POST", "/login", agent(i), where[1], status}, line{at.Add(time.Second), where[0], "GET", fmt.Sprint("/products/", i%90), agent(i), where[1], 200})
		}
	}
	// Another 500 behind one address, who stay longer and have common browsers.
	for i := range 500 {
		at := start.Add(time.Duration(i) * 6 * time.Second)
		for n := range 8 {
			lines = append(lines, line{at.Add(time.Duration(n*3) * time.Second), officeAddress, "GET", fmt.Sprint("/products/", (i+n)%90), agent(i % 41 % (1 + i%60)), "-", 200})
		}
	}
	attack := func(peer, forwarded string) {
		for i := range 240 {
			status := 401
			if i == 239 {
				status = 302
			}
			lines = append(lines, line{now.Add(-10*time.Minute + time.Duration(i)*time.Second), peer, "POST", "/login", "python-requests/2.32", forwarded, status})
		}
	}
	attack(loneAttacker, "-")
	attack(natAddress, "-")
	attack(officeAddress, "-")
	attack("104.16.3.4", "-")
	attack("203.0.113.61", "8.8.8.8")           // says so itself: nobody believes it
	attack("10.0.0.1", "8.8.8.8, 203.0.113.62") // and in front of a proxy that is believed
	attack("10.0.0.1", "192.168.4.4")
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s - - [%s] \"%s %s HTTP/1.1\" %d 512 \"-\" \"%s\" \"%s\"\n",
			l.peer, l.at.UTC().Format("02/Jan/2006:15:04:05 -0700"), l.method, l.path, l.status, l.agent, l.forwarded)
	}
	return b.String()
}

const (
	loneAttacker = "203.0.113.60"
	natAddress   = "198.51.100.254"

	officeAddress = "198.51.100.253"
)

// TestDecisionsSpareOthers: of the same attack from six places only those are
// listed where nobody else would be hit.
func TestDecisionsSpareOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, cfg := filepath.Join(dir, "access.log"), filepath.Join(dir, "weir.yaml")
	for name, text := range map[string]string{
		log: sharedLog(time.Now()),
		cfg: fmt.Sprintf("collect: [{file: %s, log_format: '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\" \"$http_x_forwarded_for\"'}]\n"+
			"identity: {trusted_proxies: [10.0.0.1]}\nstore: {path: %s}\nconsole: {listen: '127.0.0.1:0', decisions: {enabled: true}}\n", log, filepath.Join(dir, "weir.db")),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := startDaemon(t, "run", "-c", cfg)
	d.waitReady(t)
	var list struct {
		Data []struct {
			Kind, Value, Alert string
			People             []int
		}
		Spared []struct{ Value, Why string }
	}
	blocked := func() (values []string) {
		status, _, body := d.get("/api/v1/decisions")
		if err := json.Unmarshal([]byte(body), &list); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s: %v", status, body, err)
		}
		for _, e := range list.Data {
			if e.Kind == "ip" {
				values = append(values, e.Value)
			}
		}
		return values
	}
	want := []string{loneAttacker, "203.0.113.61", "203.0.113.62"}
	eventually(t, "the attackers are listed", d, func() bool { return len(blocked()) >= len(want) && len(list.Spared) > 3 })
	eventually(t, "detection has read all", d, func() bool { return d.metric("weir_detect_lag_records") == 0 && d.metric("weir_lines_total") > 9000 })
	if got := blocked(); !slices.Equal(got, want) {
		t.Errorf("listed are %v, want %v", got, want)
	}
	spared := map[string]string{}
	for _, e := range list.Spared {
		spared[e.Value] = e.Why
	}
	if !strings.Contains(spared[officeAddress], "people may be behind it") || !strings.Contains(spared[natAddress], "many browsers") || !strings.Contains(spared["104.16.3.4"], "Cloudflare") {
		t.Errorf("spared are %v", spared)
	}
	for _, format := range []string{"text", "nginx", "haproxy"} {
		_, _, body := d.get("/api/v1/decisions?format=" + format)
		for _, other := range []string{"8.8.8.8", natAddress, officeAddress, "104.16", "10.0.0.1", "192.168"} {
			if strings.Contains(body, other) {
				t.Errorf("%s lists %s:\n%s", format, other, body)
			}
		}
		if strings.Count(body, "\n") != len(want)+1 {
			t.Errorf("%s:\n%s", format, body)
		}
	}
	d.stop(t)
}

// gateway finds a server that is often outside of users' paths, "" without one.
func gateway(name string) string {
	if program, err := exec.LookPath(name); err == nil {
		return program
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if program := filepath.Join(dir, name); exists(program) {
			return program
		}
	}
	return ""
}

// TestGatewaysLoadDecisions: nginx and HAProxy take the files, full and empty.
func TestGatewaysLoadDecisions(t *testing.T) {
	s := consoleService(t)
	s.cfg.Console.Decisions = &console.DecisionsConfig{Enabled: true}
	var err error
	if s.never, err = pipeline.NewNeverBlock(s.cfg.Identity, nil, nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(format string) string {
		t.Helper()
		status, body := askConsole(t, s, "/api/v1/decisions?format="+format)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		path := filepath.Join(dir, format)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	check := func(name, config string, args ...string) {
		t.Helper()
		program := gateway(name)
		if program == "" {
			t.Logf("no %s here: that it loads the file is not tried", name)
			return
		}
		path := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), program, append(args, path)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	both := func() {
		t.Helper()
		check("nginx", fmt.Sprintf("daemon off; pid %s/pid; error_log stderr;\nevents {}\nhttp { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;\nserver { listen 127.0.0.1:1; include %s; } }\n",
			dir, put("nginx")), "-t", "-e", "stderr", "-p", dir, "-c")
		check("haproxy", fmt.Sprintf("defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nfrontend f\n bind 127.0.0.1:1\n http-request deny if { src,map_ip(%s) -m found }\n default_backend b\nbackend b\n server s 127.0.0.1:2\n",
			put("haproxy")), "-c", "-f")
	}
	both()
	o := storage.Output{Stage: detectStage}
	for i, value := range []string{"203.0.113.7", "203.0.113.8", "2001:db8:0:1::/64"} {
		a := consoleAlert(fmt.Sprint("a", i), 1, "high")
		a.Tier, a.Principal.Value, a.Context.People = "page", value, &[2]int{1, 1}
		a.Window.Last = pipeline.TimeOf(time.Now())
		o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: a})
	}
	if err := s.db.Commit(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	both()
	data, err := os.ReadFile(filepath.Join(dir, "nginx"))
	if err != nil || strings.Count(string(data), "deny ") != 3 {
		t.Errorf("%s: %v", data, err)
	}
}
