package collector

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A target for each format, so that each has its time; FuzzCombined and FuzzJSON
// are in formats_fuzz_test.go.

func FuzzCommon(f *testing.F)          { fuzzFormat(f, "common") }
func FuzzVHostCombined(f *testing.F)   { fuzzFormat(f, "vhost_combined") }
func FuzzNginx(f *testing.F)           { fuzzFormat(f, "nginx") }
func FuzzApache(f *testing.F)          { fuzzFormat(f, "apache") }
func FuzzIngressNginx(f *testing.F)    { fuzzFormat(f, "ingress_nginx") }
func FuzzHAProxy(f *testing.F)         { fuzzFormat(f, "haproxy") }
func FuzzEnvoy(f *testing.F)           { fuzzFormat(f, "envoy") }
func FuzzIstio(f *testing.F)           { fuzzFormat(f, "istio") }
func FuzzTraefik(f *testing.F)         { fuzzFormat(f, "traefik") }
func FuzzAWSALB(f *testing.F)          { fuzzFormat(f, "aws_alb") }
func FuzzCloudFront(f *testing.F)      { fuzzFormat(f, "cloudfront") }
func FuzzIIS(f *testing.F)             { fuzzFormat(f, "iis") }
func FuzzAWSAPIGateway(f *testing.F)   { fuzzFormat(f, "aws_apigateway") }
func FuzzZeek(f *testing.F)            { fuzzFormat(f, "zeek") }
func FuzzModSecurity(f *testing.F)     { fuzzFormat(f, "modsecurity") }
func FuzzDocker(f *testing.F)          { fuzzFormat(f, "docker") }
func FuzzCRI(f *testing.F)             { fuzzFormat(f, "cri") }
func FuzzAkamai(f *testing.F)          { fuzzFormat(f, "akamai") }
func FuzzAPISIX(f *testing.F)          { fuzzFormat(f, "apisix") }
func FuzzAWSWAF(f *testing.F)          { fuzzFormat(f, "aws_waf") }
func FuzzAzureAppGateway(f *testing.F) { fuzzFormat(f, "azure_appgw") }
func FuzzAzureFrontDoor(f *testing.F)  { fuzzFormat(f, "azure_frontdoor") }
func FuzzCaddy(f *testing.F)           { fuzzFormat(f, "caddy") }
func FuzzCloudflare(f *testing.F)      { fuzzFormat(f, "cloudflare") }
func FuzzECS(f *testing.F)             { fuzzFormat(f, "ecs") }
func FuzzFastly(f *testing.F)          { fuzzFormat(f, "fastly") }
func FuzzGoogleLB(f *testing.F)        { fuzzFormat(f, "google_lb") }
func FuzzKong(f *testing.F)            { fuzzFormat(f, "kong") }
func FuzzOCSF(f *testing.F)            { fuzzFormat(f, "ocsf") }
func FuzzOTel(f *testing.F)            { fuzzFormat(f, "otel") }
func FuzzSuricata(f *testing.F)        { fuzzFormat(f, "suricata") }
func FuzzTyk(f *testing.F)             { fuzzFormat(f, "tyk") }

// fuzzFormat fuzzes one format, from the lines of it that there are.
func fuzzFormat(f *testing.F, name string) {
	f.Helper()
	c, err := Named(name, ParseOptions{})
	if err != nil {
		f.Fatal(err)
	}
	fuzzLines(f)
	if line := gatewayLines()[name]; line != "" {
		f.Add([]byte(line))
	}
	for _, file := range []string{filepath.Join("presets", name+".txt"), filepath.Join("logs", name+".log")} {
		if text, err := os.ReadFile(filepath.Join("testdata", file)); err == nil {
			for _, line := range linesOf(text)[:min(20, len(linesOf(text)))] {
				f.Add(line)
			}
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		_, err := check(t, c, line)
		if err == nil && c.Arrays {
			check(t, c, append(append([]byte("["), line...), ']'))
		}
		for e := range elements(line) {
			check(t, c, e)
		}
	})
}

// TestEveryFormatIsFuzzed: a format without a target is one that nobody fuzzes.
func TestEveryFormatIsFuzzed(t *testing.T) {
	has := map[string]bool{"combined": true, "json": true}
	text, err := os.ReadFile("formats_fuzz_each_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^func Fuzz\w+\(f \*testing\.F\) +\{ fuzzFormat\(f, "(\w+)"\) \}$`).FindAllSubmatch(text, -1) {
		has[string(m[1])] = true
	}
	for _, f := range Formats() {
		if !has[f.Name] {
			t.Errorf("format %s has no fuzz target", f.Name)
		}
	}
}
