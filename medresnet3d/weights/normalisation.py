"""How pictures are normalised for ImageNet's weights: mean and deviation of red, green and blue from 0 to 1."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
