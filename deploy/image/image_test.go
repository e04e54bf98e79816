package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// unpacked is what an archive holds, by path.
type unpacked map[string]struct {
	header  *tar.Header
	content []byte
}

func unpack(t *testing.T, archive []byte) unpacked {
	t.Helper()
	out := unpacked{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := out[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) || h.Mode&0o6000 != 0 || h.Uname != "" {
			t.Errorf("%s: of %s, mode %o, owner %q", h.Name, h.ModTime, h.Mode, h.Uname)
		}
		out[h.Name] = struct {
			header  *tar.Header
			content []byte
		}{h, content}
	}
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// blob is the content that a descriptor names, which is what it says.
func (u unpacked) blob(t *testing.T, b blob) []byte {
	t.Helper()
	data := u[b.path()].content
	if digest(data) != b.Digest || len(data) != b.Size {
		t.Fatalf("%s: %d bytes of %s", b.Digest, len(data), digest(data))
	}
	return data
}

func testImage() image {
	return image{name: "weir", version: "v1", arch: "amd64", created: time.Unix(1_800_000_000, 0).UTC(), binary: []byte("the binary"), zoneinfo: []byte("the zones")}
}

// TestPack follows the archive from its index to the files, as an engine does.
func TestPack(t *testing.T) {
	archive, err := pack(testImage())
	if err != nil {
		t.Fatal(err)
	}
	outside := unpack(t, archive)
	index := decode[struct{ Manifests []blob }](t, outside["index.json"].content)
	manifest := decode[struct {
		Config blob
		Layers []blob
	}](t, outside.blob(t, index.Manifests[0]))
	config := decode[imageConfig](t, outside.blob(t, manifest.Config))
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) || len(config.History) != len(manifest.Layers) {
		t.Fatalf("%d layers, %d of the configuration, %d of the history", len(manifest.Layers), len(config.RootFS.DiffIDs), len(config.History))
	}
	saved := decode[[]struct {
		Config   string
		RepoTags []string
		Layers   []string
	}](t, outside["manifest.json"].content)
	inside := unpacked{}
	for i, l := range manifest.Layers {
		zip, err := gzip.NewReader(bytes.NewReader(outside.blob(t, l)))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(zip)
		if err != nil {
			t.Fatal(err)
		}
		if digest(plain) != config.RootFS.DiffIDs[i] || saved[0].Layers[i] != l.path() {
			t.Errorf("layer %d is %s, its configuration has %s and docker's list %s", i, digest(plain), config.RootFS.DiffIDs[i], saved[0].Layers[i])
		}
		maps.Copy(inside, unpack(t, plain))
	}
	if saved[0].Config != manifest.Config.path() || saved[0].RepoTags[0] != "weir:v1" {
		t.Errorf("docker's list: %+v", saved)
	}
	if string(inside[binaryPath].content) != "the binary" || inside[binaryPath].header.Mode != 0o755 || string(inside[zonesPath].content) != "the zones" {
		t.Error("the binary or the zones are not there")
	}
	if h := inside[statePath+"/"].header; h.Uid != user || h.Gid != user || h.Mode != 0o700 {
		t.Errorf("its state is in a directory of %d:%d, mode %o", h.Uid, h.Gid, h.Mode)
	}
	if !strings.Contains(string(inside["etc/passwd"].content), "\nweir:x:65532:65532:") {
		t.Errorf("users: %s", inside["etc/passwd"].content)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(inside[rootsPath].content) || bytes.Count(inside[rootsPath].content, []byte("BEGIN CERTIFICATE")) < 100 {
		t.Error("there are no certificates to trust")
	}
	for name, f := range inside {
		if f.header.Uid == user && name != statePath+"/" {
			t.Errorf("%s belongs to weir", name)
		}
	}
	c := config.Config
	if c.User != "65532:65532" || c.Entrypoint[0] != "/"+binaryPath || c.StopSignal != "SIGTERM" {
		t.Errorf("it is run as %+v", c)
	}
}

// TestPackIsReproducible: the same input gives the same bytes, another one others.
func TestPackIsReproducible(t *testing.T) {
	f := func(what string, same bool, change func(*image)) {
		t.Helper()
		i := testImage()
		change(&i)
		a, err := pack(testImage())
		if err != nil {
			t.Fatal(err)
		}
		b, err := pack(i)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(a, b) != same {
			t.Errorf("%s: the same bytes: %v", what, !same)
		}
	}
	f("nothing", true, func(*image) {})
	f("the binary", false, func(i *image) { i.binary = []byte("another") })
	f("the time", false, func(i *image) { i.created = time.Unix(0, 0) })
	f("the architecture", false, func(i *image) { i.arch = "arm64" })
	if _, err := pack(image{version: "a b"}); err == nil {
		t.Error("a version with a space is a tag")
	}
}

func TestCheckBinary(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, data []byte, arch, want string) {
		t.Helper()
		err := checkBinary(data, arch)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	f("a script", []byte("#!/bin/sh\n"), "amd64", "no ELF file")
	if runtime.GOOS != "linux" {
		t.Skip("this test is no ELF file")
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	f("another machine's", data, other, "not for "+other)
	f("an unknown machine's", data, "pdp11", "not for pdp11")
	if shell, err := os.ReadFile("/bin/sh"); err == nil && bytes.HasPrefix(shell, []byte("\x7fELF")) {
		f("one with libraries", shell, runtime.GOARCH, "not static")
	}
}

// TestOthersReadIt has skopeo read the archive both ways, where it is.
func TestOthersReadIt(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("no skopeo here: nobody else read the archive")
	}
	archive, err := pack(testImage())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "weir.tar")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []string{"oci-archive", "docker-archive"} {
		out, err := exec.CommandContext(t.Context(), skopeo, "inspect", "--config", transport+":"+file).Output()
		if err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
		if c := decode[imageConfig](t, out); c.Config.User != "65532:65532" || len(c.RootFS.DiffIDs) != 2 || c.Architecture != "amd64" {
			t.Errorf("%s: %s", transport, out)
		}
	}
}

// TestDockerfile: what Docker builds is run as what make image packs.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	list := func(words []string) string {
		data, err := json.Marshal(words)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	i := testImage()
	c := i.config().Config
	want := []string{
		"USER " + c.User, "WORKDIR " + c.WorkingDir, "STOPSIGNAL " + c.StopSignal, "ENTRYPOINT " + list(c.Entrypoint), "CMD " + list(c.Cmd), "ENV " + c.Env[len(c.Env)-1],
		"HEALTHCHECK --interval=30s --timeout=6s --start-period=30s --retries=3 CMD " + list(c.Healthcheck.Test[1:]),
	}
	for at := range c.Volumes {
		want = append(want, "VOLUME "+at, "COPY --from=build --chown=65532:65532 --chmod=0700 /out/state "+at)
	}
	for port := range c.ExposedPorts {
		want = append(want, "EXPOSE "+port)
	}
	for _, line := range want {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the Dockerfile has no line %s", line)
		}
	}
}
