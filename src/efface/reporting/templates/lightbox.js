// Opens a pair of images in a dialog with a slider between before and after, and offers both files for download.
// A figure holds both images, or names the image before by its id in data-before.
const box = document.getElementById("lightbox");
const [under, over] = box.querySelectorAll("img");
const [saveBefore, saveAfter] = box.querySelectorAll("a");
const slider = box.querySelector("input");

function showShare() {
  over.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
}

function save(link, image, name) {
  link.hidden = !image;
  if (!image) return;
  link.href = image.src;
  link.download = `${name}.${image.src.slice(11, 15) === "webp" ? "webp" : image.src.slice(11, 14)}`;
}

function open(figure) {
  const images = figure.querySelectorAll("img");
  const shared = document.getElementById(figure.dataset.before);
  const before = shared || (images.length > 1 ? images[0] : null), after = images[images.length - 1];
  const prompt = figure.dataset.prompt || figure.querySelector(".prompt").textContent;
  const name = prompt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60);
  under.hidden = slider.hidden = !before;
  under.src = (before || after).src;
  over.src = after.src;
  for (const image of [under, over]) image.className = after.className;
  under.alt = before ? before.alt : "";
  over.alt = after.alt;
  slider.value = before ? 50 : 0;
  save(saveBefore, before, `${name}-before`);
  save(saveAfter, after, `${name}-after`);
  box.querySelector("p").textContent = prompt;
  showShare();
  box.showModal();
}

for (const figure of document.querySelectorAll(".pair:has(img)")) {
  const two = figure.querySelector(".two");
  two.tabIndex = 0;
  two.setAttribute("role", "button");
  two.setAttribute("aria-label", "Compare the images with a slider");
  two.addEventListener("click", () => open(figure));
  two.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(figure);
    }
  });
}
slider.addEventListener("input", showShare);
box.addEventListener("click", event => {
  if (event.target === box) box.close();
});
