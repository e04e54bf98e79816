package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who weir is inside, and has what it may write.
const user = 65532

// image is what goes into one.
type image struct {
	name, version, arch string
	created             time.Time
	binary, zoneinfo    []byte
}

// Where things lie inside.
const (
	binaryPath = "usr/local/bin/weir"
	rootsPath  = "etc/ssl/certs/ca-certificates.crt"
	zonesPath  = "usr/share/zoneinfo.zip"
	statePath  = "var/lib/weir"
	configPath = "etc/weir"
)

// entry is a file or, without content, a directory of a layer.
type entry struct {
	path    string
	mode    int64
	owner   int
	content []byte
}

// base are the files beside the binary.
func base(zoneinfo []byte) []entry {
	return []entry{
		{"etc/", 0o755, 0, nil},
		{"etc/passwd", 0o644, 0, fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nweir:x:%d:%d:weir:/%s:/sbin/nologin\n", user, user, statePath)},
		{"etc/group", 0o644, 0, fmt.Appendf(nil, "root:x:0:\nweir:x:%d:\n", user)},
		{"etc/ssl/", 0o755, 0, nil},
		{"etc/ssl/certs/", 0o755, 0, nil},
		{rootsPath, 0o644, 0, roots()},
		{configPath + "/", 0o755, 0, nil},
		{"tmp/", 0o1777, 0, nil},
		{"usr/", 0o755, 0, nil},
		{"usr/share/", 0o755, 0, nil},
		{zonesPath, 0o644, 0, zoneinfo},
		{"var/", 0o755, 0, nil},
		{"var/lib/", 0o755, 0, nil},
		{statePath + "/", 0o700, user, nil},
	}
}

// roots are the certificates that Mozilla trusts without a condition, in PEM: a
// file cannot say the conditions of others.
func roots() []byte {
	var out []byte
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
		}
	}
	return out
}

// machines are the architectures that are packed, as ELF calls them.
func machines() map[string]elf.Machine {
	return map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
}

// checkBinary sees that a binary runs in an image with nothing else in it.
func checkBinary(data []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("it is no ELF file: build it with GOOS=linux: %w", err)
	}
	want, known := machines()[arch]
	if !known || f.Machine != want {
		return fmt.Errorf("it is for %s, not for %s", f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is not static: build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// blob is a part of the archive that others name by its digest.
type blob struct {
	Media  string `json:"mediaType"`
	Digest string `json:"digest"`
	Size   int    `json:"size"`

	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	data        []byte
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

func newBlob(media string, data []byte) blob {
	return blob{Media: media, Digest: digest(data), Size: len(data), data: data}
}

func (b *blob) path() string { return "blobs/sha256/" + b.Digest[len("sha256:"):] }

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// runtimeConfig is how the image is run. Engines that know no health check in it
// ignore it.
type runtimeConfig struct {
	User         string
	ExposedPorts map[string]struct{}
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Volumes      map[string]struct{}
	WorkingDir   string
	StopSignal   string
	Labels       map[string]string
	Healthcheck  *healthcheck
}

type healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

type imageConfig struct {
	Created      time.Time     `json:"created"`
	Architecture string        `json:"architecture"`
	OS           string        `json:"os"`
	Config       runtimeConfig `json:"config"`
	RootFS       rootFS        `json:"rootfs"`
	History      []history     `json:"history"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

func (i *image) config() imageConfig {
	state := "/" + statePath
	return imageConfig{
		Created: i.created, Architecture: i.arch, OS: "linux", RootFS: rootFS{Type: "layers"},
		Config: runtimeConfig{
			User: fmt.Sprintf("%d:%d", user, user), ExposedPorts: map[string]struct{}{"7380/tcp": {}},
			// With a root that cannot be written SQLite's temporary files go where the rest goes.
			Env:        []string{"PATH=/usr/local/bin", "SSL_CERT_FILE=/" + rootsPath, "ZONEINFO=/" + zonesPath, "TMPDIR=" + state},
			Entrypoint: []string{"/" + binaryPath}, Cmd: []string{"run", "-c", "/" + configPath + "/weir.yaml"},
			Volumes: map[string]struct{}{state: {}}, WorkingDir: state, StopSignal: "SIGTERM",
			Labels: map[string]string{
				"org.opencontainers.image.title": i.name, "org.opencontainers.image.version": i.version, "org.opencontainers.image.licenses": "Apache-2.0",
				"org.opencontainers.image.description": "API abuse detection from access logs",
			},
			Healthcheck: &healthcheck{
				Test:     []string{"CMD", "/" + binaryPath, "healthy", "--alive", "-c", "/" + configPath + "/weir.yaml"},
				Interval: 30 * time.Second, Timeout: 6 * time.Second, StartPeriod: 30 * time.Second, Retries: 3,
			},
		},
	}
}

// pack returns the archive.
func pack(i image) ([]byte, error) {
	if !regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`).MatchString(i.version) {
		return nil, fmt.Errorf("version %q: want what may be the tag of an image", i.version)
	}
	config := i.config()
	var layers []blob
	for _, l := range []struct {
		what    string
		entries []entry
	}{
		{"user, certificates, time zones", base(i.zoneinfo)},
		{"weir " + i.version, []entry{{"usr/local/", 0o755, 0, nil}, {"usr/local/bin/", 0o755, 0, nil}, {binaryPath, 0o755, 0, i.binary}}},
	} {
		plain, err := archiveOf(l.entries)
		if err != nil {
			return nil, err
		}
		packed, err := gzipped(plain)
		if err != nil {
			return nil, err
		}
		layers = append(layers, newBlob("application/vnd.oci.image.layer.v1.tar+gzip", packed))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest(plain))
		config.History = append(config.History, history{i.created, l.what})
	}
	return i.layout(config, layers)
}

// layout puts an OCI layout together, and the list of docker save.
func (i *image) layout(config imageConfig, layers []blob) ([]byte, error) {
	text := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			panic("BUG: " + err.Error()) // of types that marshal
		}
		return data
	}
	settings := newBlob("application/vnd.oci.image.config.v1+json", text(config))
	manifest := newBlob("application/vnd.oci.image.manifest.v1+json", text(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": settings, "layers": layers,
	}))
	named := manifest
	named.Platform = &platform{i.arch, "linux"}
	named.Annotations = map[string]string{"org.opencontainers.image.ref.name": i.version, "io.containerd.image.name": "docker.io/library/" + i.name + ":" + i.version}
	saved := map[string]any{"Config": settings.path(), "RepoTags": []string{i.name + ":" + i.version}, "Layers": []string{layers[0].path(), layers[1].path()}}
	files := []entry{{"oci-layout", 0o644, 0, []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"blobs/", 0o755, 0, nil}, {"blobs/sha256/", 0o755, 0, nil}}
	for _, b := range append(layers, settings, manifest) {
		files = append(files, entry{b.path(), 0o644, 0, b.data})
	}
	return archiveOf(append(files,
		entry{"index.json", 0o644, 0, text(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []blob{named}})},
		entry{"manifest.json", 0o644, 0, text([]any{saved})}))
}

// archiveOf is a tar of entries, all of 1970.
func archiveOf(list []entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range list {
		h := tar.Header{
			Name: e.path, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)), ModTime: time.Unix(0, 0),
			Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		}
		if e.path[len(e.path)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.path, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end the archive: %w", err)
	}
	return out.Bytes(), nil
}

func gzipped(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
