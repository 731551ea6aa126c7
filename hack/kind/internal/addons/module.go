package addons

import "encoding/json"

// downloadedDir reads the directory out of `go mod download -json`.
func downloadedDir(answer string) (string, error) {
	var m struct{ Dir string }
	err := json.Unmarshal([]byte(answer), &m)
	return m.Dir, err
}
