// Package otlp sends weir what the real OpenTelemetry SDK for Go exports. It is
// a module of its own: weir itself needs none of the SDK.
//
//	cd bench/otlp && go test ./...
package otlp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// weir runs a weir with an otlp source until the test ends; otlp is where it
// takes exports, web where it serves.
func weir(t *testing.T) (otlp, web string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "weir")
	build := exec.Command("go", "build", "-o", program, "./cmd/weir")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build weir: %v\n%s", err, out)
	}
	config := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(config, []byte("collect: [{otlp: {listen: \"127.0.0.1:0\"}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "run", "-c", config, "--store", filepath.Join(dir, "weir.db"), "--listen", "127.0.0.1:0")
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var text strings.Builder
	lines := bufio.NewScanner(errs)
	for (otlp == "" || web == "") && lines.Scan() {
		fmt.Fprintln(&text, lines.Text())
		if m := regexp.MustCompile(`"otlp": "([^"]+)/v1/"`).FindStringSubmatch(lines.Text()); m != nil {
			otlp = m[1]
		}
		if m := regexp.MustCompile(`"http": "([^"]+)"`).FindStringSubmatch(lines.Text()); m != nil {
			web = m[1]
		}
	}
	if otlp == "" || web == "" {
		t.Fatalf("weir does not listen:\n%s", text.String())
	}
	go func() { _, _ = io.Copy(io.Discard, errs) }()
	return otlp, web
}

// metric reads a metric's sum over its labels.
func metric(t *testing.T, web, name string) (sum float64) {
	t.Helper()
	resp, err := http.Get(web + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := bytes.CutPrefix(lines.Bytes(), []byte(name))
		if !ok || len(rest) == 0 || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(string(rest[bytes.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// TestSDK: what the exporters send is answered 200 and stored, spans of other
// kinds are passed over, and what is no request comes back as partial success.
func TestSDK(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	endpoint, web := weir(t)
	var mu sync.Mutex
	var told []string
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, err.Error())
	}))
	const n = 500
	for _, gzip := range []bool{false, true} {
		traces := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(endpoint + "/v1/traces")}
		logs := []otlploghttp.Option{otlploghttp.WithEndpointURL(endpoint + "/v1/logs")}
		if gzip {
			traces = append(traces, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
			logs = append(logs, otlploghttp.WithCompression(otlploghttp.GzipCompression))
		}
		spanExporter, err := otlptracehttp.New(ctx, traces...)
		if err != nil {
			t.Fatal(err)
		}
		logExporter, err := otlploghttp.New(ctx, logs...)
		if err != nil {
			t.Fatal(err)
		}
		tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spanExporter))
		loggers := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(logExporter)))
		for i := range n {
			c, server := tracers.Tracer("shop").Start(ctx, "GET /item/{id}", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
				attribute.String("http.request.method", "GET"), attribute.String("url.scheme", "https"), attribute.String("url.path", "/item/"+strconv.Itoa(i)),
				attribute.Int("http.response.status_code", 200), attribute.String("client.address", "198.51.100.7"), attribute.String("network.peer.address", "203.0.113.7"),
				attribute.String("user_agent.original", "curl/8"), attribute.StringSlice("http.request.header.x-forwarded-for", []string{"198.51.100.7"})))
			_, client := tracers.Tracer("shop").Start(c, "SELECT", trace.WithSpanKind(trace.SpanKindClient))
			client.End()
			server.End()
			var r log.Record
			r.SetTimestamp(time.Now())
			r.SetBody(attribute.StringValue("handled"))
			r.AddAttributes(attribute.String("http.method", "POST"), attribute.String("http.target", "/login"), attribute.Int("http.status_code", 401), attribute.String("net.sock.peer.addr", "203.0.113.8"))
			loggers.Logger("shop").Emit(ctx, r)
		}
		if err := errors.Join(tracers.ForceFlush(ctx), loggers.ForceFlush(ctx)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if len(told) > 0 {
			t.Errorf("the SDK complains: %q", told)
		}
		mu.Unlock()
		var r log.Record
		r.SetTimestamp(time.Now())
		r.SetBody(attribute.StringValue("started in 3 s"))
		loggers.Logger("shop").Emit(ctx, r)
		if err := tracers.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := loggers.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "OTLP partial success") || !strings.Contains(err.Error(), "1 logs rejected") {
			t.Errorf("of a log that is no request the SDK was told %v", err)
		}
	}
	if got := metric(t, web, "weir_requests_total"); got != 4*n {
		t.Errorf("%v requests are stored, want %d", got, 4*n)
	}
	if got := metric(t, web, "weir_otlp_skipped_spans_total"); got != 2*n {
		t.Errorf("%v spans are passed over, want %d", got, 2*n)
	}
	if got := metric(t, web, "weir_rejects_total"); got != 2 {
		t.Errorf("%v lines are rejected, want 2", got)
	}
}
