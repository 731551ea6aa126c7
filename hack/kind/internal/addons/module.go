package addons

import "encoding/json"

// downloadedDir returns the directory in the output of `go mod download -json`.
func downloadedDir(answer string) (string, error) {
	var m struct{ Dir string }
	err := json.Unmarshal([]byte(answer), &m)
	return m.Dir, err
}
