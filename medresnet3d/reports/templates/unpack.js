"use strict";
// The voxels of a part of the page: base64, zlib, and for images what each voxel differs from the mean of its left and
// upper neighbour, modulo 256. The first axis runs fastest.
async function unpack(text, shape, smooth) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at += 1) bytes[at] = raw.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const codes = new Uint8Array(await new Response(stream).arrayBuffer());
  const [ni, nj, nk] = shape;
  if (codes.length !== ni * nj * nk) throw new Error(`${codes.length} voxels instead of ${ni * nj * nk}`);
  for (let row = 0; smooth && row < nj * nk; row += 1) {
    const start = row * ni, first = row % nj === 0;
    let left = 0;
    for (let at = start; at < start + ni; at += 1) {
      left = (codes[at] + ((left + (first ? 0 : codes[at - ni])) >> 1)) & 255;
      codes[at] = left;
    }
  }
  return codes;
}
