package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inImage runs weir in the files of an image: as its user, with a root that cannot
// be written, and /var/lib/weir in memory.
const inImage = `set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t tmpfs -o uid=65532,gid=65532,mode=0700 state "$root/var/lib/weir"
mount -o remount,bind,ro "$root"
cd /
exec env -i $environment PATH="$PATH" chroot --userspec=65532:65532 --groups= "$root" /usr/local/bin/weir "$@"
`

// TestImageRuns packs this binary as make image does, unpacks what came of it,
// and runs weir in it.
func TestImageRuns(t *testing.T) {
	if os.Getuid() != 0 || exec.Command("unshare", "--mount", "true").Run() != nil {
		t.Skip("needs a root who may mount: the image is not run")
	}
	root := filepath.Join(t.TempDir(), "root")
	environment := unpackImage(t, packImage(t), root)
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	sample, err := os.ReadFile(filepath.Join("testdata", "sample.log.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"sample.log.gz":      string(sample),
		"etc/weir/weir.yaml": "collect: [{file: /sample.log.gz, timezone: Europe/Berlin}]\nstore: {path: /var/lib/weir/weir.db}\nconsole: {listen: '127.0.0.1:0'}\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", inImage, "sh", root}, args...)...)
		cmd.Env = append(os.Environ(), "environment="+strings.Join(environment, " "))
		return cmd
	}
	var want, errs bytes.Buffer
	if code := run(t.Context(), []string{"analyze", "--quiet", filepath.Join("testdata", "sample.log.gz")}, nil, &want, &errs); code != exitOK {
		t.Fatal(errs.String())
	}
	analyze := command("analyze", "--quiet", "/sample.log.gz")
	analyze.Stderr = &errs
	if got, err := analyze.Output(); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("weir analyze in the image: %v\n%s%s", err, got, errs.String())
	}
	d := &daemon{cmd: command("run", "-c", "/etc/weir/weir.yaml"), done: make(chan struct{}), log: &safeBuffer{}}
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(func() { _ = d.cmd.Process.Kill(); <-d.done })
	d.waitReady(t)
	eventually(t, "weir run works in the image", d, func() bool { status, _, _ := d.get("/readyz"); return status == http.StatusOK })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), "\nUid:\t65532\t65532\t65532\t65532\n") || !strings.Contains(string(status), "\nCapEff:\t0000000000000000\n") {
		t.Errorf("who it is: %v\n%s", err, status)
	}
	eventually(t, "it finds who walks through orders", d, func() bool {
		_, _, list := d.get("/api/v1/alerts")
		return strings.Contains(list, "Object ids walked on GET /api/v1/orders/{int} by 198.51.100.21")
	})
	d.stop(t)
}

// packImage packs this binary with the tool.
func packImage(t *testing.T) (archive []byte) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("no go command here: %v", err)
	}
	out := filepath.Join(t.TempDir(), "weir.tar")
	pack := exec.Command("go", "run", "./deploy/image", "-binary", self, "-version", "test", "-o", out,
		"-zoneinfo", filepath.Join(strings.TrimSpace(string(goroot)), "lib", "time", "zoneinfo.zip"))
	pack.Dir = repositoryRoot(t)
	text, err := pack.CombinedOutput()
	if bytes.Contains(text, []byte("not static")) {
		t.Skip("this test was built with CGO_ENABLED=1: it does not run in an image")
	}
	if err != nil {
		t.Fatalf("pack the image: %v\n%s", err, text)
	}
	if archive, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	return archive
}

// unpackImage lays the layers of an archive under root, and returns the
// environment that it is run in.
func unpackImage(t *testing.T, archive []byte, root string) []string {
	t.Helper()
	files := map[string][]byte{}
	eachIn(t, bytes.NewReader(archive), func(h *tar.Header, content []byte) { files[h.Name] = content })
	var saved []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &saved); err != nil || len(saved) != 1 || len(saved[0].Layers) == 0 {
		t.Fatalf("manifest.json: %v", err)
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, layer := range saved[0].Layers {
		zip, err := gzip.NewReader(bytes.NewReader(files[layer]))
		if err != nil {
			t.Fatal(err)
		}
		eachIn(t, zip, func(h *tar.Header, content []byte) {
			at := filepath.Join(root, h.Name)
			err := os.MkdirAll(at, 0o755)
			if h.Typeflag == tar.TypeReg {
				err = errors.Join(os.Remove(at), os.WriteFile(at, content, 0o644))
			}
			if err := errors.Join(err, os.Chown(at, h.Uid, h.Gid), os.Chmod(at, h.FileInfo().Mode())); err != nil {
				t.Fatal(err)
			}
		})
	}
	var settings struct{ Config struct{ Env []string } }
	if err := json.Unmarshal(files[saved[0].Config], &settings); err != nil || len(settings.Config.Env) == 0 {
		t.Fatalf("its configuration: %v", err)
	}
	return settings.Config.Env
}

// eachIn calls f for each file of a tar.
func eachIn(t *testing.T, r io.Reader, f func(h *tar.Header, content []byte)) {
	t.Helper()
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		f(h, content)
	}
}
