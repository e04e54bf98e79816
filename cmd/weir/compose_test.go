package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"weir/pipeline"
)

// composeFile is what the tests look at of deploy/compose.yaml. Whether it is a
// compose file at all is asked of Compose's own loader, in bench/compose.
type composeFile struct {
	Services map[string]composeService          `yaml:"services"`
	Configs  map[string]struct{ File string }   `yaml:"configs"`
	Secrets  map[string]struct{ File string }   `yaml:"secrets"`
	Volumes  map[string]any                     `yaml:"volumes"`
	Networks map[string]struct{ Internal bool } `yaml:"networks"`
}

type composeService struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Secrets     []string          `yaml:"secrets"`
	Volumes     []string          `yaml:"volumes"`
	Networks    []string          `yaml:"networks"`
	Configs     []struct{ Source, Target string }
	User        string   `yaml:"user"`
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	Tmpfs       []string `yaml:"tmpfs"`
	Healthcheck struct {
		Test    []string
		Disable bool
	}
	DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
	Deploy    struct {
		Resources struct{ Limits struct{ Memory string } }
	}
}

func loadCompose(t *testing.T) (c composeFile) {
	t.Helper()
	if err := yaml.Load([]byte(readPage(t, "deploy/compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestComposeIsClosed: nothing is published but on loopback, nothing runs with
// more rights or memory than it needs, and no secret is in the file.
func TestComposeIsClosed(t *testing.T) {
	c := loadCompose(t)
	if len(c.Services) < 10 || !c.Networks["fleet"].Internal {
		t.Fatalf("%d services", len(c.Services))
	}
	published := 0
	for name, s := range c.Services {
		for _, p := range s.Ports {
			published++
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %s", name, p)
			}
		}
		if len(s.Ports) == 0 && slices.Contains(s.Networks, "out") && name != "alert" {
			t.Errorf("%s reaches out", name)
		}
		if !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Deploy.Resources.Limits.Memory == "" {
			t.Errorf("%s may do or take too much: %+v", name, s)
		}
		if !regexp.MustCompile(`:(\$\{|v?\d+\.\d+)`).MatchString(s.Image) {
			t.Errorf("%s: the image %s is of no version", name, s.Image)
		}
		for key, value := range s.Environment {
			if regexp.MustCompile(`(?i)pass|secret|token`).MatchString(key) {
				t.Errorf("%s: %s=%s", name, key, value)
			}
		}
		for on, d := range s.DependsOn {
			other, there := c.Services[on]
			switch {
			case !there:
				t.Errorf("%s waits for %s, which is not there", name, on)
			case d.Condition == "service_healthy" && len(other.Healthcheck.Test) == 0:
				t.Errorf("%s waits until %s is healthy, which has no check", name, on)
			}
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, named := c.Volumes[from]; !named && !strings.HasPrefix(from, "./secrets/") && !strings.HasPrefix(v, "${WEIR_LOGS:?") {
				t.Errorf("%s: the volume %s is not declared", name, v)
			}
		}
		for _, one := range s.Configs {
			if _, there := c.Configs[one.Source]; !there {
				t.Errorf("%s: there is no config %s", name, one.Source)
			}
		}
		for _, one := range s.Secrets {
			if _, there := c.Secrets[one]; !there {
				t.Errorf("%s: there is no secret %s", name, one)
			}
		}
	}
	if published != 2 { // serve, and grafana with its profile
		t.Errorf("%d ports are published", published)
	}
	for name, one := range c.Configs {
		if _, err := os.Stat(filepath.Join(repositoryRoot(t), "deploy", one.File)); err != nil {
			t.Errorf("config %s: %v", name, err)
		}
	}
}

// composeConfig is compose/weir.yaml with secrets as setup.sh makes them, and the
// directory that it made them in.
func composeConfig(t *testing.T) (cfg *config, file, secrets string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl here: compose/setup.sh needs it")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "compose"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := writeFile(t, filepath.Join(dir, "compose"), "setup.sh", []byte(readPage(t, "deploy/compose/setup.sh")))
	chown := writeFile(t, dir, "chown", []byte("#!/bin/sh\n")) // for who is not root
	if err := os.Chmod(chown, 0o755); err != nil {
		t.Fatal(err)
	}
	state := func() (text string) {
		cmd := exec.Command("sh", script)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("setup.sh: %v\n%s", err, out)
		}
		files, err := filepath.Glob(filepath.Join(dir, "secrets", "*"))
		if err != nil || len(files) < 5 {
			t.Fatalf("it made %v: %v", files, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			text += filepath.Base(f) + "\n" + string(data) + "\n"
		}
		return text
	}
	if d := cmp.Diff(state(), state()); d != "" {
		t.Errorf("another run changes what is there: %s", d)
	}
	secrets = filepath.Join(dir, "secrets")
	text := strings.ReplaceAll(readPage(t, "deploy/compose/weir.yaml"), "/run/secrets/", secrets+"/")
	file = writeFile(t, dir, "weir.yaml", []byte(text))
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"check", "-c", file}, nil, &out, &errs); code != exitOK || errs.Len() > 0 {
		t.Fatalf("weir check ends with %d: %s%s", code, out.String(), errs.String())
	}
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, file, secrets
}

// TestComposeConfiguration: the configuration fits the services around it.
func TestComposeConfiguration(t *testing.T) {
	c := loadCompose(t)
	cfg, _, _ := composeConfig(t)
	var brokers []string
	for name, s := range c.Services {
		if id := s.Environment["KAFKA_NODE_ID"]; id != "" {
			address := strings.TrimPrefix(s.Environment["KAFKA_ADVERTISED_LISTENERS"], "PLAINTEXT://")
			brokers = append(brokers, address)
			if host, port, err := net.SplitHostPort(address); err != nil || host != name || !strings.Contains(s.Environment["KAFKA_LISTENERS"], "PLAINTEXT://:"+port+",") ||
				!strings.Contains(s.Environment["KAFKA_CONTROLLER_QUORUM_VOTERS"], id+"@"+name+":9093") {
				t.Errorf("%s is node %s at %s", name, id, address)
			}
		}
	}
	slices.Sort(brokers)
	if d := cmp.Diff(brokers, cfg.Bus.Brokers); d != "" || cfg.Bus.Replication != len(brokers) {
		t.Errorf("%d copies on the brokers: %s", cfg.Bus.Replication, d)
	}
	var server struct {
		Port string `xml:"tcp_port_secure"`
		TLS  struct {
			Cert string `xml:"server>certificateFile"`
			Key  string `xml:"server>privateKeyFile"`
		} `xml:"openSSL"`
	}
	if err := xml.Unmarshal([]byte(readPage(t, "deploy/compose/clickhouse.xml")), &server); err != nil {
		t.Fatal(err)
	}
	if got := cfg.Store.ClickHouse.Addresses; len(got) != 1 || got[0] != "clickhouse:"+server.Port {
		t.Errorf("ClickHouse is asked at %v", got)
	}
	for _, path := range []string{server.TLS.Cert, server.TLS.Key} {
		if !slices.Contains(c.Services["clickhouse"].Secrets, strings.TrimPrefix(path, "/run/secrets/")) {
			t.Errorf("ClickHouse is not given %s", path)
		}
	}
	_, metrics, err := net.SplitHostPort(cfg.Console.MetricsListen)
	if err != nil {
		t.Fatal(err)
	}
	var scraped struct {
		Jobs []struct {
			Name string `yaml:"job_name"`
			DNS  []struct {
				Names []string `yaml:"names"`
				Port  string   `yaml:"port"`
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Load([]byte(readPage(t, "deploy/compose/prometheus.yml")), &scraped); err != nil {
		t.Fatal(err)
	}
	for _, r := range roles() {
		s, there := c.Services[r.name]
		if !there || !slices.Contains(scraped.Jobs[0].DNS[0].Names, r.name) || scraped.Jobs[0].DNS[0].Port != metrics {
			t.Errorf("the role %s does not run, or is not scraped", r.name)
			continue
		}
		for _, call := range [][]string{append([]string{"weir"}, s.Command...), append([]string{"weir"}, s.Healthcheck.Test[2:]...)} {
			if problem := wrongCall(strings.Join(call, " ")); problem != "" {
				t.Error(problem)
			}
		}
		state := "/var/lib/weir"
		kept := slices.ContainsFunc(append(s.Volumes, s.Tmpfs...), func(v string) bool {
			return strings.HasPrefix(v, state+":") || strings.HasSuffix(v, ":"+state)
		})
		if s.Command[0] != r.name || !s.ReadOnly || s.User != "65532:65532" || !kept {
			t.Errorf("%s: %+v", r.name, s)
		}
		for _, one := range []string{"privacy.key", "clickhouse.password", "clickhouse.crt"} {
			if !slices.Contains(s.Secrets, one) {
				t.Errorf("%s is not given %s", r.name, one)
			}
		}
	}
}

// TestComposeSecrets: what setup.sh makes is what the programs take.
func TestComposeSecrets(t *testing.T) {
	cfg, _, secrets := composeConfig(t)
	if _, err := pipeline.LoadOrCreatePrivacyKeys(cfg.Privacy.KeyFile); err != nil {
		t.Error(err)
	}
	o, err := cfg.Store.ClickHouse.options()
	if err != nil {
		t.Fatal(err)
	}
	var users struct {
		Hash string `xml:"users>weir>password_sha256_hex"`
	}
	data, err := os.ReadFile(filepath.Join(secrets, "clickhouse-users.xml"))
	if err = errors.Join(err, xml.Unmarshal(data, &users)); err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256([]byte(o.Password)); users.Hash != hex.EncodeToString(sum[:]) || len(o.Password) < 32 {
		t.Errorf("the password of %d characters is not the one that ClickHouse knows", len(o.Password))
	}
	data, err = os.ReadFile(filepath.Join(secrets, "clickhouse.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "clickhouse", Roots: o.TLS.RootCAs}); err != nil {
		t.Errorf("the certificate: %v", err)
	}
	modes := map[string]os.FileMode{"privacy.key": 0o400, "clickhouse.password": 0o400, "clickhouse.pem": 0o400, "clickhouse-users.xml": 0o400, "clickhouse.crt": 0o444}
	for name, mode := range modes {
		if st, err := os.Stat(filepath.Join(secrets, name)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}
