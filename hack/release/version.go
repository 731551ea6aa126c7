package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
	"sigs.k8s.io/yaml"
)

const chartDir = "charts/securenotes-operator"

// checkVersion accepts a full version of Semantic Versioning, without a leading v.
func checkVersion(version string) error {
	plain, _, _ := strings.Cut(version, "+")
	if v := "v" + version; !semver.IsValid(v) || semver.Canonical(v) != "v"+plain {
		return fmt.Errorf("version %q must be a full semantic version without a leading v, such as 0.1.0 or 0.2.0-rc.1", version)
	}
	return nil
}

// imageTag returns the version with + replaced by _, because tags do not allow +. helm and the
// chart do the same.
func imageTag(version string) string { return strings.ReplaceAll(version, "+", "_") }

// chartVersion returns the version of the chart in the checkout.
func chartVersion(root string) (string, error) {
	path := filepath.Join(root, chartDir, "Chart.yaml")
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	meta, err := parseChart(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return meta.Version, nil
}

type chartMeta struct {
	Version    string `json:"version"`
	AppVersion string `json:"appVersion"`
}

func parseChart(raw []byte) (meta chartMeta, err error) {
	return meta, yaml.Unmarshal(raw, &meta)
}

// sourceDate parses SOURCE_DATE_EPOCH (reproducible-builds.org). If it is empty, the date is in
// 1970.
func sourceDate(epoch string) (time.Time, error) {
	if epoch == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("%q: %w", epoch, errNoDate)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
