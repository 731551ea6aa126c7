package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// imageSBOM returns the CycloneDX document of one platform's image. It lists the program with its
// SHA-256, every linked module, Go's standard library, and the module of the CA certificates. The
// linked modules are those that Go recorded in the binary.
func imageSBOM(p program, binary, version, architecture string, digest v1.Hash, created time.Time) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	sum, err := checksum(binary)
	if err != nil {
		return nil, err
	}
	image := cdx.Component{
		Type: cdx.ComponentTypeContainer, Name: p.image, Version: version, Description: p.title,
		PackageURL: fmt.Sprintf("pkg:oci/%s@%s?arch=%s&tag=%s", p.image, url.PathEscape(digest.String()), architecture, url.QueryEscape(imageTag(version))),
	}
	image.BOMRef = image.PackageURL
	binaryComponent := cdx.Component{
		BOMRef: p.pkg, Type: cdx.ComponentTypeApplication, Name: info.Path, Version: version,
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}},
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}
	components, needs := []cdx.Component{binaryComponent}, []string{}
	for _, module := range append([]*debug.Module{{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...) {
		c, err := moduleComponent(module)
		if err != nil {
			return nil, err
		}
		components, needs = append(components, c), append(needs, c.BOMRef)
	}
	certificates, err := moduleComponent(certificatesModule())
	if err != nil {
		return nil, err
	}
	components = append(components, certificates)

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: created.Format(time.RFC3339), Component: &image}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{
		{Ref: image.BOMRef, Dependencies: &[]string{binaryComponent.BOMRef, certificates.BOMRef}},
		{Ref: binaryComponent.BOMRef, Dependencies: &needs},
	}
	var out bytes.Buffer
	// All scanners read version 1.6, but not all read later versions.
	err = cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return out.Bytes(), err
}

func moduleComponent(m *debug.Module) (cdx.Component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	purl := "pkg:golang/" + m.Path + "@" + url.PathEscape(m.Version)
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, Scope: cdx.ScopeRequired, PackageURL: purl}
	if m.Sum == "" { // the standard library has no checksum
		return c, nil
	}
	// Go's h1 is the SHA-256 of a list of the module's files and their SHA-256.
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil {
		return c, fmt.Errorf("checksum of module %s: %w", m.Path, err)
	}
	c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	return c, nil
}

// certificatesModule returns the module of [roots] that is linked into this program.
func certificatesModule() *debug.Module {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == rootsModule {
				return m
			}
		}
	}
	return &debug.Module{Path: rootsModule}
}
