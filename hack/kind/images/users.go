package images

import (
	"bytes"
	"fmt"

	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// Repository is the prefix of the names of images that are packed from hack/tools. No server has
// this host name.
const Repository = "securenotes.dev/hack/"

// Static packs one statically linked program. user is uid:gid. Empty: root.
func Static(p toolchain.Program, from, user string) Image {
	path := "/usr/local/bin/" + string(p)
	return Image{
		Repository: Repository + string(p), Entrypoint: []string{path}, User: user,
		Files: append(Users("nonroot", NonRoot), File{To: path, From: from}),
	}
}

// NonRoot is the user of our images. It is that of distroless's "nonroot", which many policies
// know.
const NonRoot = 65532

// Users returns the account files of an image. Many programs do not run as a user without a name.
func Users(name string, id int) []File {
	var passwd, group bytes.Buffer
	_, _ = fmt.Fprintf(&passwd, "root:x:0:0:root:/root:/sbin/nologin\n%s:x:%d:%d:%s:/:/sbin/nologin\n", name, id, id, name)
	_, _ = fmt.Fprintf(&group, "root:x:0:\n%s:x:%d:\n", name, id)
	return []File{
		{To: "/etc/passwd", Data: passwd.Bytes(), Mode: 0o644},
		{To: "/etc/group", Data: group.Bytes(), Mode: 0o644},
	}
}
