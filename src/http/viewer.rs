//! `GET /docs`: the OpenAPI document in Swagger UI, which the binary contains.
//!
//! Without the feature `cli` there is no viewer, and `/docs` redirects to the document.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

#[cfg(feature = "cli")]
pub(super) use embedded::{file, page};

#[cfg(not(feature = "cli"))]
pub(super) fn page(_: &hyper::header::HeaderMap) -> Response<Full<Bytes>> {
    use hyper::StatusCode;
    use hyper::header::{HeaderValue, LOCATION};

    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("openapi.json"));
    response
}

#[cfg(not(feature = "cli"))]
pub(super) fn file(_: &str, _: &hyper::header::HeaderMap) -> Option<Response<Full<Bytes>>> {
    None
}

#[cfg(feature = "cli")]
mod embedded {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use hyper::header::HeaderMap;
    use rawzip::{CompressionMethod, ZipArchive, ZipFileHeaderRecord};
    use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

    use super::super::asset::Asset;
    use super::super::documents::{self, File};
    use super::{Bytes, Full, Response};

    static SCRIPT: File = File::new("docs.js", include_str!("docs/docs.js"));

    /// Swagger UI has images in its style sheet.
    const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; \
                          style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    /// The served files of the archive, below its only directory.
    const FILES: [&str; 3] = ["dist/swagger-ui-bundle.js", "dist/swagger-ui.css", "LICENSE"];

    /// The files by name.
    static SWAGGER_UI: LazyLock<HashMap<&str, Asset>> = LazyLock::new(|| {
        let archive = ZipArchive::from_slice(SWAGGER_UI_VENDORED).expect("the crate contains an archive");
        let (mut entries, mut files) = (archive.entries(), HashMap::new());
        while let Some(entry) = entries.next_entry().expect("the archive is complete") {
            let path = str::from_utf8(entry.file_path().as_bytes()).expect("names are UTF-8");
            let path = path.split_once('/').map_or("", |(_, path)| path);
            if let Some(path) = FILES.into_iter().find(|&file| file == path) {
                let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
                let content = archive.get_entry(entry.wayfinder()).expect("the archive is complete").data();
                files.insert(name, Asset::of_gzip(documents::content_type(name), gzip(&entry, content)));
            }
        }
        files
    });

    /// Wraps the compressed bytes of an entry as gzip (RFC 1952), which browsers decompress.
    fn gzip(entry: &ZipFileHeaderRecord<'_>, content: &[u8]) -> Bytes {
        assert_eq!(entry.compression_method(), CompressionMethod::DEFLATE);
        let checksum = entry.crc32().to_le_bytes();
        let size = (entry.uncompressed_size_hint() as u32).to_le_bytes();
        [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], content, &checksum, &size].concat().into()
    }

    /// `GET /docs`: the page.
    pub(crate) fn page(headers: &HeaderMap) -> Response<Full<Bytes>> {
        static PAGE: LazyLock<Asset> = LazyLock::new(|| Asset::page(POLICY, include_str!("docs/docs.html")));
        PAGE.response(headers)
    }

    /// `GET /docs/{name}`: a file of the page.
    pub(crate) fn file(name: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        if name == SCRIPT.name {
            return Some(SCRIPT.response(headers));
        }
        SWAGGER_UI.get(name).map(|asset| asset.response(headers))
    }
}
