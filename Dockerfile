# Release images: static binaries on an empty base, one target each.
#   docker build --target securenotes -t securenotes .
#   docker build --target operator -t securenotes-operator .
# `make release` writes dist/Dockerfile, which has the version, and the digest of the base image.
# `make images` packs the same contents for the test cluster, without a container builder.

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api ./api
COPY app ./app
COPY controllers ./controllers
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=devel
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w -X github.com/securenotes/securenotes/app/config.version=$VERSION" -o /out/ ./app/cmd/securenotes ./controllers/cmd/operator
# A user by name: many programs and policies look one up.
RUN printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' > /out/passwd && \
    printf 'root:x:0:\nnonroot:x:65532:\n' > /out/group

FROM scratch AS base
COPY --from=build /out/passwd /out/group /etc/
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532

FROM base AS securenotes
COPY --from=build /out/securenotes /usr/local/bin/securenotes
ENTRYPOINT ["/usr/local/bin/securenotes"]

FROM base AS operator
COPY --from=build /out/operator /usr/local/bin/operator
ENTRYPOINT ["/usr/local/bin/operator"]
