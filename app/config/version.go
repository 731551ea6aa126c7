package config

import "runtime/debug"

// version is the release, which `make release` sets with -ldflags -X; empty in every other build.
var version string

// Version returns what both programs print for --version: the release that they were built for,
// else the version that Go derived from the module or from Git, else "devel".
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
