package config

import "runtime/debug"

// version is the release. `make release` sets it with -ldflags -X. It is empty in every other
// build.
var version string

// Version returns what both programs print for --version: the release, or the version that Go
// derived from the module or from Git, or "devel".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return versionOf(version, info.Main.Version)
}

func versionOf(release, module string) string {
	switch {
	case release != "":
		return release
	case module != "" && module != "(devel)":
		return module
	default:
		return "devel"
	}
}
